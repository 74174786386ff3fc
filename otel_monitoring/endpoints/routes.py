"""The HTTP side of the endpoints: paths, parameters, status codes, access. `answers` and `alerts` make the content."""

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

from fastapi import Depends, FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends as DependsMarker
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.routing import Route

from otel_monitoring.alerts.manager import AlertManager
from otel_monitoring.alerts.model import AlertSeverity
from otel_monitoring.alerts.store.history import HISTORY_LIMIT
from otel_monitoring.config.hints import did_you_mean
from otel_monitoring.config.settings import Settings
from otel_monitoring.endpoints.access import NO_STORE, TokenGuard, refuse_other_sites
from otel_monitoring.endpoints.router import Router
from otel_monitoring.endpoints.unavailable import or_unavailable
from otel_monitoring.errors import ConfigurationError, TooManyMutesError
from otel_monitoring.guard import logger
from otel_monitoring.health.series_query import METRICS_LIMIT, SeriesQuery, SeriesQueryError
from otel_monitoring.health.status import HEALTH_JSON, UNHEALTHY, health_json
from otel_monitoring.instrumentation.http_server.own_routes import Endpoint
from otel_monitoring.metrics.service_history import SERVICE, Scope
from otel_monitoring.redact.json_text import json_text

if TYPE_CHECKING:
    from otel_monitoring.endpoints.bodies import MaintenanceRequest, MuteRequest

B = TypeVar("B", bound=BaseModel)

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
        """The JSON of `detailed`, `metrics`, `diagnostics`, `errors` or `objectives`, from fresh measurements."""


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


IncidentId = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$")]


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

    Attributes:
        ask_for_token: Whether the admin token is the only key.

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
        self.ask_for_token = admin is None and settings.access != "open" and settings.admin_token is not None
        if admin is None and settings.access == "open":
            self._guards += app.router.dependencies
        if admin is not None:
            # What FastAPI has against it is raised now, and not by the first request, which makes the route.
            _Route("/", _open, dependencies=[guard])

    def public(self, path: str) -> Router:
        """A router at `path` below the prefix that lets everybody in.

        Its functions take the request and nothing else. FastAPI would keep the source of each file in memory of which
        it has called one, for its messages, and a description of its parameters.
        """
        return Router(self._prefix + path, partial(Route, include_in_schema=False))

    def private(self, path: str) -> Router:
        """A router at `path` below the prefix that lets admins in."""
        kind = partial(
            _Route, dependencies=self._guards, dependency_overrides_provider=self._app, include_in_schema=False
        )
        return Router(self._prefix + path, kind)


def create_routes(doors: Doors, service: MonitoredService) -> Sequence[Endpoint]:
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
    from otel_monitoring.endpoints.bodies import FIELDS

    detail = [
        {"type": error["type"], "loc": [name for name in (part, *error["loc"]) if name in FIELDS], "msg": error["msg"]}
        for error in errors
    ]
    return _json({"detail": detail}, 422)


async def _body_of(request: Request, kind: type[B]) -> B:
    """The body, read here because FastAPI would read it before the guards have let the request through.

    Raises:
        HTTPException: 413, the body is too large.
        ValidationError: It has another form.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST_BODY:
            raise HTTPException(413, f"The body may have {_LARGEST_BODY} bytes", {**NO_STORE, "Connection": "close"})
    return kind.model_validate_json(bytes(body) or b"{}")


async def _carried_out(request: Request, kind: type[B], action: Callable[[B], Response]) -> Response:
    """The answer of `action` to the body, in a thread: the store may wait for the disk or for another worker.

    Where the body has another form, or `action` raises a `ValueError` whose message begins with a field, it is 422.
    """
    try:
        return await run_in_threadpool(action, await _body_of(request, kind))
    except ValidationError as error:
        return _not_of(kind, error)
    except TooManyMutesError as error:
        raise HTTPException(409, str(error), NO_STORE) from None
    except ValueError as error:
        return _refused([_named(error)], "body")


def _not_of(kind: type[BaseModel], error: ValidationError) -> Response:
    """The answer to a body of another form; the name of a field that there is not is the sender's, and not repeated."""
    from otel_monitoring.endpoints.bodies import WeeklyRequest

    problems = error.errors(include_input=False, include_url=False, include_context=False)
    for problem in problems:
        if problem["type"] == "extra_forbidden":
            *place, name = problem["loc"]
            fields = [field.alias or own for own, field in (WeeklyRequest if place else kind).model_fields.items()]
            problem["msg"] = f"No such field{did_you_mean(str(name), fields)}: there are {', '.join(fields)}"
    return _refused(problems, "body")


def _named(error: ValueError) -> dict[str, Any]:
    """What is wrong, in FastAPI's form; the message begins with the field."""
    field, _, why = str(error).partition(": ")
    return {"type": "value_error", "loc": (field,), "msg": why}


def _public_health(router: Router, service: MonitoredService) -> Sequence[Endpoint]:
    @router.get("", head=True)
    async def health(request: Request) -> Response:
        answer = service.basic_health()
        code = 503 if answer["status"] == UNHEALTHY else 200
        if HEALTH_JSON in request.headers.get("accept", ""):
            return _json(health_json(answer), code, HEALTH_JSON)
        return _json(answer, code)

    @router.get("/live", head=True)
    async def live(_: Request) -> Response:
        return _json({"status": "alive"})

    @router.get("/ready", head=True)
    async def ready(_: Request) -> Response:
        return _json({"status": "ready"}) if service.ready else _json({"status": "not ready"}, 503)

    return router.endpoints


def _private_health(router: Router, service: MonitoredService) -> Sequence[Endpoint]:
    @router.get("/detailed")
    async def detailed(scope: Scope = SERVICE) -> Response:
        return await _rendered(service, "detailed", scope)

    @router.get("/metrics")
    async def metrics(scope: Scope = SERVICE) -> Response:
        return await _rendered(service, "metrics", scope)

    @router.get("/diagnostics")
    async def diagnostics(scope: Scope = SERVICE) -> Response:
        return await _rendered(service, "diagnostics", scope)

    @router.get("/errors")
    async def errors() -> Response:
        return await _rendered(service, "errors")

    @router.get("/objectives")
    async def objectives() -> Response:
        return await _rendered(service, "objectives")

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
            with or_unavailable():
                return _json(service.series(SeriesQuery(metric, span, step, endpoint, until)))
        except SeriesQueryError as error:
            return _refused([{"type": "value_error", "loc": (error.field,), "msg": str(error)}], "query")

    return router.endpoints


async def _rendered(service: MonitoredService, what: str, scope: Scope = SERVICE) -> Response:
    with or_unavailable():
        return _json(await service.render(what, scope))


def _alerts(router: Router, service: MonitoredService) -> Sequence[Endpoint]:
    @router.get("/summary")
    async def summary() -> Response:
        return _json(await service.alert_manager.get_alert_summary())

    @router.get("/history")
    async def history(
        limit: Annotated[int, Query(ge=1, le=HISTORY_LIMIT)] = 100,
        alert_type: str | None = None,
        severity: AlertSeverity | None = None,
    ) -> Response:
        try:
            return _json(await service.alert_manager.get_alert_history(limit, alert_type, severity))
        except ValueError as error:
            return _refused([_named(error)], "query")

    @router.get("/firing")
    async def firing() -> Response:
        return _json(await service.alert_manager.firing())

    @router.get("/mutes")
    async def mutes() -> Response:
        return _json(await service.alert_manager.get_mutes())

    @router.get("/maintenance")
    async def maintenance() -> Response:
        return _json(await service.alert_manager.get_maintenance())

    @router.get("/rules")
    async def rules() -> Response:
        return _json(await service.alert_manager.rule_states())

    return router.endpoints


def _alert_actions(router: Router, service: MonitoredService) -> Sequence[Endpoint]:
    _add_mute_actions(router, service)
    _add_maintenance_actions(router, service)
    _add_acknowledgement_actions(router, service)

    @router.post("/test")
    async def test() -> Response:
        return _json(await service.alert_manager.test_channels())

    return router.endpoints


def _add_mute_actions(router: Router, service: MonitoredService) -> None:
    @router.post("/mutes")
    async def mute(request: Request) -> Response:
        from otel_monitoring.endpoints.bodies import MuteRequest

        return await _carried_out(request, MuteRequest, _mute)

    def _mute(body: "MuteRequest") -> Response:
        made = service.alert_manager.mute(
            body.type,
            rule=body.rule,
            labels=body.labels,
            duration_seconds=body.duration_seconds,
            author=body.author,
            reason=body.reason,
        )
        what = ", ".join(filter(None, (made["type"], made["rule"], *map("=".join, made["labels"].items()))))
        author, reason = made["author"] or "nobody", made["reason"] or "-"
        logger.info("%s muted until %s by %s: %s", what, made["until"], author, reason)
        silenced = service.alert_manager.silenced(made["id"])
        kept = {"silenced": silenced} if silenced is not None else {}
        return _json({**made, "duration_seconds": body.duration_seconds, **kept}, 201)

    @router.delete("/mutes/{name}")
    def unmute(name: Annotated[str, Path(pattern=r"^[a-z][a-z0-9_]{0,63}$|^mute-[0-9a-f]{12}$")]) -> Response:
        if not service.alert_manager.unmute(name):
            raise HTTPException(404, f"{name} is not muted", NO_STORE)
        return Response(status_code=204, headers=NO_STORE)


def _add_maintenance_actions(router: Router, service: MonitoredService) -> None:
    @router.post("/maintenance")
    async def plan(request: Request) -> Response:
        from otel_monitoring.endpoints.bodies import MaintenanceRequest

        return await _carried_out(request, MaintenanceRequest, _plan)

    def _plan(body: "MaintenanceRequest") -> Response:
        if body.weekly is not None and (body.start or body.end):
            raise ValueError("weekly: either this, or from and to")
        weekly = body.weekly
        start, end = (weekly.start, weekly.end) if weekly is not None else (body.start, body.end)
        if start is None or end is None:
            raise ValueError(f"{'from' if start is None else 'to'}: is needed, or weekly")
        made = service.alert_manager.plan_maintenance(
            start,
            end,
            days=weekly.days if weekly is not None else (),
            timezone=body.timezone,
            alert_type=body.type,
            rule=body.rule,
            labels=body.labels,
            author=body.author,
            reason=body.reason,
        )
        author, reason = made["author"] or "nobody", made["reason"] or "-"
        logger.info("maintenance %s planned from %s by %s: %s", made["id"], made["opens"], author, reason)
        return _json(made, 201)

    @router.delete("/maintenance/{name}")
    def end(name: Annotated[str, Path(pattern=r"^window-[0-9a-f]{12}$")]) -> Response:
        if not service.alert_manager.end_maintenance(name):
            raise HTTPException(404, f"{name} is not planned", NO_STORE)
        return Response(status_code=204, headers=NO_STORE)


def _add_acknowledgement_actions(router: Router, service: MonitoredService) -> None:
    @router.post("/{incident}/acknowledge")
    async def acknowledge(request: Request, incident: IncidentId) -> Response:
        from otel_monitoring.endpoints.bodies import AcknowledgeRequest

        try:
            body = await _body_of(request, AcknowledgeRequest)
        except ValidationError as error:
            return _not_of(AcknowledgeRequest, error)
        try:
            done = await service.alert_manager.acknowledge(incident, author=body.author, reason=body.reason)
        except LookupError as error:
            raise HTTPException(404, str(error.args[0]), NO_STORE) from None
        return _json(done, 201)

    @router.delete("/{incident}/acknowledge")
    async def take_back(incident: IncidentId) -> Response:
        if not await service.alert_manager.take_back_acknowledgement(incident):
            raise HTTPException(404, f"{incident} is not acknowledged", NO_STORE)
        return Response(status_code=204, headers=NO_STORE)
