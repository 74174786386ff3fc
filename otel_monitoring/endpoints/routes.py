"""The HTTP side of the endpoints: paths, parameters, status codes, access. `answers` and `alerts` make the content."""

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends as DependsMarker
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.routing import BaseRoute

from otel_monitoring.alerts.manager import AlertManager
from otel_monitoring.alerts.model import AlertSeverity, AlertType, readable_labels
from otel_monitoring.alerts.store.history import HISTORY_LIMIT
from otel_monitoring.config.settings import Settings
from otel_monitoring.endpoints.access import NO_STORE, TokenGuard, refuse_other_sites
from otel_monitoring.errors import ConfigurationError, StoreError, TooManyMutesError
from otel_monitoring.guard import logger
from otel_monitoring.health.series_query import METRICS_LIMIT, SeriesQuery, SeriesQueryError
from otel_monitoring.health.status import HEALTH_JSON, UNHEALTHY, health_json
from otel_monitoring.metrics.service_history import SERVICE, Scope
from otel_monitoring.redact import redact
from otel_monitoring.redact.json_value import json_text
from otel_monitoring.timestamps import rfc3339

_LARGEST_BODY = 64 * 1024
"""The most bytes of a body; a mute with all its labels has less than 30 kB."""
_DENIED = (
    "The monitoring details are private and nothing is configured to open them: set OTEL_MONITORING_ADMIN_TOKEN "
    "(then send it as 'Authorization: Bearer ...'), pass admin=Depends(...) to MonitoringService, or set "
    "OTEL_MONITORING_ACCESS=open for development"
)


class MonitoredService(Protocol):
    """The part of `MonitoringService` that the routes use."""

    @property
    def alert_manager(self) -> AlertManager:
        """The alert manager in use."""

    @property
    def ready(self) -> bool:
        """Whether the process has started and is not draining."""

    def series(self, query: SeriesQuery) -> dict[str, Any]:
        """The answer of `/health/series`; it waits for the store. Raises `SeriesQueryError` and `StoreError`."""

    def note_wrong_token(self) -> None:
        """Count a request with a wrong admin token."""

    def basic_health(self) -> dict[str, Any]:
        """The answer of `/health`: `status`, `timestamp`, `uptime_seconds`."""

    async def render(self, what: str, scope: Scope) -> bytes:
        """The JSON of `detailed`, `metrics`, `diagnostics` or `errors`, from fresh measurements."""


class _Route(APIRoute):
    """A route whose answer 422 names the wrong field without its value, which may be a secret."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler with the answer 422 replaced by ours."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except RequestValidationError as error:
                return _refused(error.errors())

        return handle


Label = Annotated[str, Field(min_length=1, max_length=500)]


class MuteRequest(BaseModel):
    """The body of `POST /alerts/mutes`."""

    model_config = ConfigDict(extra="forbid")

    type: AlertType
    duration_seconds: Annotated[float, Field(strict=True, gt=0, le=366 * 86_400)] = 300
    labels: Annotated[dict[Label, Label], Field(max_length=20)] = {}
    reason: Annotated[str, Field(max_length=500)] = ""
    author: Annotated[str, Field(max_length=200)] = ""


_PARAMETERS = ("limit", "alert_type", "severity", "scope", "metric", "range", "step", "endpoint", "end")
_FIELDS = frozenset({*MuteRequest.model_fields, "query", "path", "body", *_PARAMETERS})
"""Names that an error may contain; all other names in it come from the sender."""


class Doors:
    """Makes routers, for everybody or for admins. All of them have one guard, which counts wrong tokens once.

    The application's own dependencies, `FastAPI(dependencies=[...])`, do not guard the endpoints: a probe has no user,
    and a request cannot satisfy two guards that read the same header. With `access` set to `open` they do guard the
    private endpoints.

    Args:
        app: The application, which may override the `admin` dependency.
        service: Counts wrong tokens.
        settings: Prefix, admin token and access.
        admin: The application's own dependency that guards the private endpoints in place of the token, or None.

    Raises:
        ConfigurationError: `admin` is no dependency.
    """

    def __init__(self, app: FastAPI, service: MonitoredService, settings: Settings, admin: object) -> None:
        if admin is not None and not isinstance(admin, DependsMarker):
            raise ConfigurationError("admin: must be a FastAPI dependency, e.g. admin=Depends(require_admin)")
        self._app = app
        self._prefix = settings.prefix
        guard = admin if admin is not None else Depends(_guard(settings, service))
        self._guards = [Depends(refuse_other_sites), guard]
        if admin is None and settings.access == "open":
            self._guards += app.router.dependencies

    def public(self, path: str) -> APIRouter:
        """A router at `path` below the prefix that lets everybody in."""
        return _router(self._app, self._prefix + path)

    def private(self, path: str) -> APIRouter:
        """A router at `path` below the prefix that lets admins in."""
        return _router(self._app, self._prefix + path, self._guards)


def create_routes(doors: Doors, service: MonitoredService) -> Sequence[BaseRoute]:
    """Make the endpoints of health and alerts.

    Args:
        doors: Makes their routers.
        service: The service whose health and alerts are shown.
    """
    return [
        *_public_health(doors.public("/health"), service),
        *_private_health(doors.private("/health"), service),
        *_alerts(doors.private("/alerts"), service),
        *_alert_actions(doors.private("/alerts"), service),
    ]


def _router(app: FastAPI, prefix: str, guards: Sequence[DependsMarker] = ()) -> APIRouter:
    return APIRouter(
        prefix=prefix,
        dependencies=guards,
        dependency_overrides_provider=app,
        include_in_schema=False,
        route_class=_Route,
    )


def _guard(settings: Settings, service: MonitoredService) -> Callable[..., Awaitable[None]]:
    if settings.access == "open":
        return _open
    if settings.admin_token is None:
        return _closed
    return TokenGuard(settings.admin_token.get_secret_value(), lambda: service.note_wrong_token())


async def _open() -> None:
    return


async def _closed() -> None:
    raise HTTPException(403, _DENIED, NO_STORE)


def _json(body: Any, status: int = 200, media_type: str = "application/json") -> Response:
    content = body if isinstance(body, bytes) else json_text(body).encode()
    return Response(content, status, NO_STORE, media_type)


def _refused(errors: Iterable[Mapping[str, Any]], part: str | None = None) -> Response:
    """The answer 422 in FastAPI's form: which field is wrong, and why. `part` is the part of the request it is in."""
    detail = [
        {"type": error["type"], "loc": [name for name in (part, *error["loc"]) if name in _FIELDS], "msg": error["msg"]}
        for error in errors
    ]
    return _json({"detail": detail}, 422)


async def _mute_of(request: Request) -> MuteRequest:
    """The body, read here because FastAPI would read it before the guards have let the request through.

    Raises:
        HTTPException: 413, the body is too large.
        ValidationError: It is no mute.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST_BODY:
            raise HTTPException(413, f"The body may have {_LARGEST_BODY} bytes", {**NO_STORE, "Connection": "close"})
    return MuteRequest.model_validate_json(bytes(body))


def _public_health(router: APIRouter, service: MonitoredService) -> Sequence[BaseRoute]:
    @router.api_route("", methods=["GET", "HEAD"])
    async def health(request: Request) -> Response:
        answer = service.basic_health()
        code = 503 if answer["status"] == UNHEALTHY else 200
        if HEALTH_JSON in request.headers.get("accept", ""):
            return _json(health_json(answer), code, HEALTH_JSON)
        return _json(answer, code)

    @router.api_route("/live", methods=["GET", "HEAD"])
    async def live() -> Response:
        return _json({"status": "alive"})

    @router.api_route("/ready", methods=["GET", "HEAD"])
    async def ready() -> Response:
        return _json({"status": "ready"}) if service.ready else _json({"status": "not ready"}, 503)

    return router.routes


def _private_health(router: APIRouter, service: MonitoredService) -> Sequence[BaseRoute]:
    @router.get("/detailed")
    async def detailed(scope: Scope = SERVICE) -> Response:
        return _json(await service.render("detailed", scope))

    @router.get("/metrics")
    async def metrics(scope: Scope = SERVICE) -> Response:
        return _json(await service.render("metrics", scope))

    @router.get("/diagnostics")
    async def diagnostics(scope: Scope = SERVICE) -> Response:
        return _json(await service.render("diagnostics", scope))

    @router.get("/errors")
    async def errors() -> Response:
        return _json(await service.render("errors", SERVICE))

    @router.get("/series")
    def series(
        metric: Annotated[list[str], Query(max_length=METRICS_LIMIT)],
        span: Annotated[str, Query(alias="range")] = "1h",
        step: str | None = None,
        endpoint: str | None = None,
        end: datetime | None = None,
    ) -> Response:
        until = None if end is None else end.replace(tzinfo=end.tzinfo or timezone.utc).timestamp()
        try:
            return _json(service.series(SeriesQuery(metric, span, step, endpoint, until)))
        except SeriesQueryError as error:
            return _refused([{"type": "value_error", "loc": (error.field,), "msg": str(error)}], "query")
        except StoreError as error:
            raise HTTPException(503, f"the past cannot be read: {error}", NO_STORE) from None

    return router.routes


def _alerts(router: APIRouter, service: MonitoredService) -> Sequence[BaseRoute]:
    @router.get("/summary")
    async def summary() -> Response:
        return _json(await service.alert_manager.get_alert_summary())

    @router.get("/history")
    async def history(
        limit: Annotated[int, Query(ge=1, le=HISTORY_LIMIT)] = 100,
        alert_type: AlertType | None = None,
        severity: AlertSeverity | None = None,
    ) -> Response:
        return _json(await service.alert_manager.get_alert_history(limit, alert_type, severity))

    @router.get("/firing")
    async def firing() -> Response:
        return _json(await service.alert_manager.firing())

    @router.get("/rules")
    async def rules() -> Response:
        return _json(await service.alert_manager.rule_states())

    return router.routes


def _alert_actions(router: APIRouter, service: MonitoredService) -> Sequence[BaseRoute]:
    # Mutes are stored in threads: the store may wait for the disk or for another worker.

    @router.post("/mutes")
    async def mute(request: Request) -> Response:
        try:
            body = await _mute_of(request)
        except ValidationError as error:
            return _refused(error.errors(include_input=False, include_url=False, include_context=False), "body")
        try:
            return await run_in_threadpool(_store, body)
        except TooManyMutesError as error:
            raise HTTPException(409, str(error), NO_STORE) from None

    def _store(body: MuteRequest) -> Response:
        until = service.alert_manager.mute_alert_type(
            body.type, body.duration_seconds, labels=body.labels, author=body.author, reason=body.reason
        )
        author, reason = redact(body.author), redact(body.reason)
        logger.info("%s muted until %s by %s: %s", body.type.name, rfc3339(until), author or "nobody", reason or "-")
        shown = {"labels": readable_labels(body.labels), "author": author, "reason": reason, "until": rfc3339(until)}
        return _json({**body.model_dump(mode="json"), **shown}, 201)

    @router.delete("/mutes/{alert_type}")
    def unmute(alert_type: AlertType) -> Response:
        if not service.alert_manager.unmute_alert_type(alert_type):
            raise HTTPException(404, f"{alert_type.value} is not muted", NO_STORE)
        return Response(status_code=204, headers=NO_STORE)

    @router.post("/test")
    async def test() -> Response:
        return _json(await service.alert_manager.test_channels())

    return router.routes
