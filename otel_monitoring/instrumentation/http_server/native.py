"""FastAPI's own telemetry (0.142 and newer): switched off for instrumented applications, and used to name routes.

It would measure each request beside our recorder, which measures alike for every FastAPI at less cost. Its hooks inside
of FastAPI stay in use: they name the route of a request, and make the spans of operations and the log records of failed
validations.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

from fastapi.applications import FastAPI
from opentelemetry.context import Context, set_value
from starlette.types import Scope

from otel_monitoring import seams

MEASURED = "fastapi.telemetry"
"""The key of the scope under which FastAPI's hooks find the request."""
_LEFT = "otel_monitoring.left"
_CONFIG = "_telemetry"
_PREFIX = "_mount_prefix"
_EXCEPTIONS = "_exceptions"
_MODULE = "fastapi.telemetry._api"


class ChosenTelemetry(NamedTuple):
    """What the user has set in `FastAPI(telemetry={...})`.

    Attributes:
        tracer_provider: The provider of spans; None: not set. Likewise the other two.
        meter_provider: See `tracer_provider`.
        logger_provider: See `tracer_provider`.
        tracing: Whether there may be spans. Likewise the other three.
        metrics: See `tracing`.
        logs: See `tracing`.
        operation_spans: See `tracing`.
        exclude: Whether a request is left out.
    """

    tracer_provider: Any = None
    meter_provider: Any = None
    logger_provider: Any = None
    tracing: bool = True
    metrics: bool = True
    logs: bool = True
    operation_spans: bool = True
    exclude: Callable[[Scope], bool] | None = None


def has_telemetry() -> bool:
    """Whether the installed FastAPI has telemetry of its own."""
    return find_spec("fastapi.telemetry") is not None


def providers_of(app: object) -> dict[str, object]:
    """The providers that the user has set in `FastAPI(telemetry={...})`, by signal (`traces`, `metrics`, `logs`)."""
    config = getattr(app, "__dict__", {}).get(_CONFIG)
    if not isinstance(config, dict):
        return {}
    keys = {"traces": "tracer_provider", "metrics": "meter_provider", "logs": "logger_provider"}
    return {signal: config[key] for signal, key in keys.items() if config.get(key) is not None}


def switch_off(app: FastAPI) -> ChosenTelemetry | None:
    """Switch off FastAPI's own measuring of `app`, and its export, which would be a second one.

    Returns:
        What the user has set; None if it cannot be switched off.
    """
    with seams.FASTAPI_OPTIONS:
        config = vars(app)[_CONFIG]
        chosen = ChosenTelemetry(**{name: config[name] for name in ChosenTelemetry._fields})
        config.update(tracing=False, metrics=False, logs=False, auto_configure=False)
        return chosen
    return None


def leave_out(app: FastAPI, exclude: Callable[[Scope], bool]) -> None:
    """Have FastAPI's telemetry leave out the requests that `exclude` selects; `app` is not instrumented by us."""
    config = vars(app).get(_CONFIG)
    if isinstance(config, dict):
        theirs = config.get("exclude")
        config["exclude"] = exclude if theirs is None else lambda scope: theirs(scope) or exclude(scope)


def leave_to_others(scope: Scope) -> None:
    """Mark a request that the mounting application leaves out, and the instrumented mounted one measures."""
    scope[_LEFT] = True


def left_out_around(scope: Scope) -> bool:
    """Whether a mounting application leaves the request out altogether."""
    return scope.get(MEASURED, _LEFT) is None and _LEFT not in scope


class ValidationLogger:
    """Passes records on, except exceptions: the recorder logs these, and knows more, e.g. whether the client has left.

    Args:
        logger: Receives everything else.
    """

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def emit(self, *args: Any, **record: Any) -> None:
        """Emit a record."""
        if "exception" not in record:
            self._logger.emit(*args, **record)


class RouteNaming:
    """Makes the objects that FastAPI's hooks look for in the scope, and in which they note the route.

    Args:
        logger: Receives log records of failed validations; None: nobody does.
        tracer: Makes spans of operations; None: there are none.

    Attributes:
        in_context: Whether hooks look for the request in the context, too.
    """

    def __init__(self, *, logger: Any = None, tracer: Any = None) -> None:
        self._kind = seams.FASTAPI_REQUEST.load(_MODULE, "_RequestTelemetry")
        self._key = seams.FASTAPI_REQUEST.load(_MODULE, "_REQUEST_TELEMETRY_KEY")
        self._data = seams.FASTAPI_REQUEST.load("fastapi.telemetry", "TelemetryData")
        self._logger = logger
        self._tracer = tracer

        self.in_context = logger is not None or tracer is not None

    @classmethod
    def tried(cls, *, logger: Any = None, tracer: Any = None) -> "RouteNaming | None":
        """One that works with the installed FastAPI; None if there is none."""
        if not has_telemetry():
            return None
        with seams.FASTAPI_REQUEST:
            naming = cls(logger=logger, tracer=tracer)
            trial = naming.request(None, "GET", "/prefix")
            naming.within(trial, Context())
            naming.ended(trial)
            if (trial.route, getattr(trial, _PREFIX)) != (None, "/prefix"):
                raise LookupError("it has other attributes")
            return naming
        return None

    def request(self, span: Any, method: str, prefix: str) -> Any:
        """The object of one request, or one WebSocket.

        Args:
            span: Its span, which FastAPI names after the route, too; None if it has none.
            method: The beginning of the span's name.
            prefix: What the route's name begins with.
        """
        data = self._data() if self.in_context or span is not None else None
        return self._kind(
            span=span, span_method=method, tracer=self._tracer, logger=self._logger, data=data, _mount_prefix=prefix
        )

    def within(self, request: Any, context: Context) -> Context:
        """`context` with a request, where hooks and the application's own processors look for it."""
        return set_value(self._key, request, context)

    def ended(self, request: Any) -> None:
        """Forget what FastAPI has noted about a request: a retained context must not keep it."""
        request.data = None
        getattr(request, _EXCEPTIONS).clear()


def name_around(around: Any, route: str) -> None:
    """Set the route in the measurement of a mounting application, which FastAPI's own telemetry makes."""
    with seams.FASTAPI_REQUEST:
        whole = getattr(around, _PREFIX) + route
        if around.route != whole:
            around.route = whole
            if around.span is not None:
                around.span.update_name(f"{around.span_method} {whole}")
