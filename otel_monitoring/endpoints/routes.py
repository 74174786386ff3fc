"""The HTTP shape of the answers: paths, status codes, access. What they say is decided elsewhere."""

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
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
from otel_monitoring.alerts.store.protocol import HISTORY_LIMIT
from otel_monitoring.config.settings import Settings
from otel_monitoring.endpoints.access import NO_STORE, TokenGuard
from otel_monitoring.errors import ConfigurationError, TooManyMutesError
from otel_monitoring.guard import logger
from otel_monitoring.health.status import HEALTH_JSON, UNHEALTHY, health_json
from otel_monitoring.redact import redact
from otel_monitoring.redact.json_value import json_text
from otel_monitoring.timestamps import rfc3339

_LARGEST_BODY = 64 * 1024
"""Bytes a body may have: a mute with its labels needs less than 30 kB."""
_DENIED = (
    "The monitoring details are private and nothing is configured to open them: set OTEL_MONITORING_ADMIN_TOKEN "
    "(then send it as 'Authorization: Bearer ...'), pass admin=Depends(...) to MonitoringService, or set "
    "OTEL_MONITORING_ACCESS=open for development"
)


class Answers(Protocol):
    """What the routes ask the monitoring service for."""

    @property
    def alert_manager(self) -> AlertManager:
        """The alert manager in use."""

    @property
    def ready(self) -> bool:
        """Started up, and not draining."""

    def note_wrong_token(self) -> None:
        """Count a request with a wrong admin token."""

    def basic_health(self) -> dict[str, Any]:
        """`status`, `timestamp`, `uptime_seconds`."""

    async def render(self, what: str) -> bytes:
        """`detailed`, `metrics` or `diagnostics`, brought up to date, as JSON."""


class _Route(APIRoute):
    """Names what is wrong with a request without repeating it, which may hold a secret or what is no JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, with our answer to what it refuses."""
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


_FIELDS = frozenset({*MuteRequest.model_fields, "query", "path", "body", "limit", "alert_type", "severity"})
"""What an error may name: every other name in it is the sender's."""


def create_routes(app: FastAPI, answers: Answers, settings: Settings, admin: object) -> Sequence[BaseRoute]:
    """Make every endpoint, under the configured prefix.

    The application's own dependencies, `FastAPI(dependencies=[...])`, do not guard them: a probe has no user, and two
    guards that read the same header would never both open. Only where `access` is `open` do they stay before the
    private endpoints.

    Args:
        app: The application, which may override the `admin` dependency.
        answers: Where the answers come from.
        settings: Prefix, admin token and access.
        admin: The application's own dependency that guards the private endpoints, in place of the token.

    Raises:
        ConfigurationError: `admin` is no dependency.
    """
    if admin is not None and not isinstance(admin, DependsMarker):
        raise ConfigurationError("admin: must be a FastAPI dependency, e.g. admin=Depends(require_admin)")
    guards = [admin] if admin is not None else [Depends(_guard(settings, answers))]
    if admin is None and settings.access == "open":
        guards += app.router.dependencies
    return [
        *_public_health(_router(app, f"{settings.prefix}/health"), answers),
        *_private_health(_router(app, f"{settings.prefix}/health", guards), answers),
        *_alerts(_router(app, f"{settings.prefix}/alerts", guards), answers),
    ]


def _router(app: FastAPI, prefix: str, guards: Sequence[DependsMarker] = ()) -> APIRouter:
    return APIRouter(
        prefix=prefix,
        dependencies=guards,
        dependency_overrides_provider=app,
        include_in_schema=False,
        route_class=_Route,
    )


def _guard(settings: Settings, answers: Answers) -> Callable[..., Awaitable[None]]:
    if settings.access == "open":
        return _open
    if settings.admin_token is None:
        return _closed
    return TokenGuard(settings.admin_token.get_secret_value(), lambda: answers.note_wrong_token())


async def _open() -> None:
    return


async def _closed() -> None:
    raise HTTPException(403, _DENIED, NO_STORE)


def _json(body: Any, status: int = 200, media_type: str = "application/json") -> Response:
    content = body if isinstance(body, bytes) else json_text(body).encode()
    return Response(content, status, NO_STORE, media_type)


def _refused(errors: Iterable[Mapping[str, Any]], part: str | None = None) -> Response:
    """The answer 422, in FastAPI's form: which field, and why."""
    detail = [
        {"type": error["type"], "loc": [name for name in (part, *error["loc"]) if name in _FIELDS], "msg": error["msg"]}
        for error in errors
    ]
    return _json({"detail": detail}, 422)


async def _from_no_other_site(request: Request) -> None:
    """Refuse what the page of another site can make a browser send with its cookies: a POST that is not JSON.

    For JSON, browsers ask us before. We read bodies ourselves, and so past FastAPI's own check of the content type.

    Raises:
        HTTPException: 415 for what names another origin than this host and is not JSON.
    """
    origin = request.headers.get("origin")
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if origin is None or media_type == "application/json" or media_type.endswith("+json"):
        return
    if origin.partition("://")[2].lower() != request.headers.get("host", "").lower():
        raise HTTPException(415, "Another site's page must send Content-Type: application/json", NO_STORE)


async def _mute_of(request: Request) -> MuteRequest:
    """The body, read here and not by FastAPI, which reads it before any dependency has been asked who sends it.

    Raises:
        HTTPException: It is too large.
        ValidationError: It is no mute.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST_BODY:
            raise HTTPException(413, f"The body may have {_LARGEST_BODY} bytes", {**NO_STORE, "Connection": "close"})
    return MuteRequest.model_validate_json(bytes(body))


def _public_health(router: APIRouter, answers: Answers) -> Sequence[BaseRoute]:
    @router.api_route("", methods=["GET", "HEAD"])
    async def health(request: Request) -> Response:
        answer = answers.basic_health()
        code = 503 if answer["status"] == UNHEALTHY else 200
        if HEALTH_JSON in request.headers.get("accept", ""):
            return _json(health_json(answer), code, HEALTH_JSON)
        return _json(answer, code)

    @router.api_route("/live", methods=["GET", "HEAD"])
    async def live() -> Response:
        return _json({"status": "alive"})

    @router.api_route("/ready", methods=["GET", "HEAD"])
    async def ready() -> Response:
        return _json({"status": "ready"}) if answers.ready else _json({"status": "not ready"}, 503)

    return router.routes


def _private_health(router: APIRouter, answers: Answers) -> Sequence[BaseRoute]:
    @router.get("/detailed")
    async def detailed() -> Response:
        return _json(await answers.render("detailed"))

    @router.get("/metrics")
    async def metrics() -> Response:
        return _json(await answers.render("metrics"))

    @router.get("/diagnostics")
    async def diagnostics() -> Response:
        return _json(await answers.render("diagnostics"))

    return router.routes


def _alerts(router: APIRouter, answers: Answers) -> Sequence[BaseRoute]:
    @router.get("/summary")
    async def summary() -> Response:
        return _json(await answers.alert_manager.get_alert_summary())

    @router.get("/history")
    async def history(
        limit: Annotated[int, Query(ge=1, le=HISTORY_LIMIT)] = 100,
        alert_type: AlertType | None = None,
        severity: AlertSeverity | None = None,
    ) -> Response:
        return _json(await answers.alert_manager.get_alert_history(limit, alert_type, severity))

    @router.get("/firing")
    async def firing() -> Response:
        return _json(await answers.alert_manager.firing())

    @router.get("/rules")
    async def rules() -> Response:
        return _json(await answers.alert_manager.rule_states())

    # In threads: a store may wait for a disk or for another worker.

    @router.post("/mutes", dependencies=[Depends(_from_no_other_site)])
    async def mute(request: Request) -> Response:
        try:
            body = await _mute_of(request)
        except ValidationError as error:
            return _refused(error.errors(include_input=False, include_url=False, include_context=False), "body")
        try:
            return await run_in_threadpool(_muted, body)
        except TooManyMutesError as error:
            raise HTTPException(409, str(error), NO_STORE) from None

    def _muted(body: MuteRequest) -> Response:
        until = answers.alert_manager.mute_alert_type(
            body.type, body.duration_seconds, labels=body.labels, author=body.author, reason=body.reason
        )
        author, reason = redact(body.author), redact(body.reason)
        logger.info("%s muted until %s by %s: %s", body.type.name, rfc3339(until), author or "nobody", reason or "-")
        said = {"labels": readable_labels(body.labels), "author": author, "reason": reason, "until": rfc3339(until)}
        return _json({**body.model_dump(mode="json"), **said}, 201)

    @router.delete("/mutes/{alert_type}")
    def unmute(alert_type: AlertType) -> Response:
        if not answers.alert_manager.unmute_alert_type(alert_type):
            raise HTTPException(404, f"{alert_type.value} is not muted", NO_STORE)
        return Response(status_code=204, headers=NO_STORE)

    @router.post("/test", dependencies=[Depends(_from_no_other_site)])
    async def test() -> Response:
        return _json(await answers.alert_manager.test_channels())

    return router.routes
