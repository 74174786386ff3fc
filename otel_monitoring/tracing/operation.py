"""`traced`: an operation of the application as a span and a duration, with an alert when it fails."""

import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextvars import Token
from dataclasses import dataclass, field
from functools import wraps
from time import perf_counter
from types import TracebackType
from typing import Any, Final, TypeVar, cast

from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.util.types import AttributeValue

from otel_monitoring.conventions import ERROR_TYPE, OPERATION_NAME
from otel_monitoring.events import AlertType
from otel_monitoring.guard import contained
from otel_monitoring.redact import redact
from otel_monitoring.tracing.alerting import Failure, raise_alert
from otel_monitoring.tracing.source import current

F = TypeVar("F", bound=Callable[..., Any])

_GUARD: Final = contained("tracing of an operation")
_MAX_FRAMES: Final = 50


@dataclass(frozen=True, slots=True)
class Operation:
    """What is traced.

    Attributes:
        name: Name of the span and of the duration's series; a fixed text.
        attributes: Attributes of the span.
        kind: Kind of the span.
        alert: The type of alert its failure raises, or None.
    """

    name: str
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    kind: SpanKind = SpanKind.INTERNAL
    alert: AlertType | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"name: an operation is named by a text, not by {self.name!r}")  # @traced without ()


class Run:
    """One run of an operation, as a context manager that gives its span. It is entered once.

    What our own side raises is contained: the operation then runs without its span.

    Args:
        operation: What runs.
        context: The parent's context; None: the current one.
        links: Links of the span.
        key: Where the run's own context holds this object, for who has to find it there.
    """

    __slots__ = ("_began", "_context", "_key", "_links", "_operation", "_source", "_span", "_token")

    def __init__(
        self,
        operation: Operation,
        context: Context | None = None,
        links: Sequence[Link] = (),
        *,
        key: str | None = None,
    ) -> None:
        self._operation = operation
        self._context = context
        self._links = links
        self._key = key
        self._source = current()
        self._span: Span = INVALID_SPAN
        self._token: Token[Context] | None = None

    def __enter__(self) -> Span:
        operation = self._operation
        with _GUARD:
            self._span = self._source.tracer.start_span(
                operation.name, self._context, operation.kind, operation.attributes, self._links
            )
            context = set_span_in_context(self._span, self._context)
            if self._key is not None:
                context = contexts.set_value(self._key, self, context)
            self._token = contexts.attach(context)
        self._began = perf_counter()
        return self._span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        duration = perf_counter() - self._began
        # Cancellation and the end of the process are no errors of the operation.
        failure = Failure(self._operation.name, error_type(error), error) if isinstance(error, Exception) else None
        with _GUARD:
            self._measure(duration, failure)
        if failure is not None:
            with _GUARD:
                _explain(self._span, failure)
            if self._operation.alert is not None:
                raise_alert(self._operation.alert, failure, self._source.submit)
        with _GUARD:
            self._span.end()
        if self._token is not None:
            contexts.detach(self._token)

    def _measure(self, duration: float, failure: Failure | None) -> None:
        source = self._source
        attributes = {OPERATION_NAME: source.operations(self._operation.name)}
        if failure is not None:
            attributes[ERROR_TYPE] = source.errors(failure.error_type)
        source.record(duration, attributes)


class traced:  # noqa: N801 - reads as a decorator and as a statement
    """Trace an operation: as a decorator of a function or coroutine function, or as `with traced("…") as span:`.

    Each run is a span, and a measurement of the histogram `otel_monitoring.operation.duration` (seconds; attributes
    `otel_monitoring.operation.name` and, where it failed, `error.type`). An exception sets the span's status and is
    recorded on it, secrets redacted; then it goes on as it was. Cancellation is no error.

    It may be used at import, before any service exists: spans and durations go where the process's service sends its
    own, once that runs, and to OpenTelemetry's global providers before.

    Args:
        name: Names the span and the duration's series: a fixed text, e.g. `billing.run`.
        alert: The alert a failure raises, with the documented severity of its type; nobody waits for its delivery.
        attributes: Attributes of the span.
        kind: Kind of the span.

    Raises:
        TypeError: `name` is no text.
        ValueError: `alert` is no known type.
    """

    def __init__(
        self,
        name: str,
        *,
        alert: AlertType | str | None = None,
        attributes: Mapping[str, AttributeValue] | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> None:
        self._operation = Operation(name, attributes or {}, kind, AlertType(alert) if alert is not None else None)
        self._key = contexts.create_key("otel_monitoring.traced")

    def __call__(self, function: F) -> F:
        """Decorate `function`.

        Raises:
            TypeError: It is a generator function: its caller decides how long it takes. Use `with` inside of it.
        """
        operation = self._operation
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"traced({operation.name!r}) cannot decorate the generator function {function.__qualname__}: "
                "write `with traced(...)` around the work inside of it"
            )
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def traced_coroutine(*args: Any, **kwargs: Any) -> Any:
                with Run(operation):
                    return await function(*args, **kwargs)

            return cast("F", traced_coroutine)

        @wraps(function)
        def traced_call(*args: Any, **kwargs: Any) -> Any:
            with Run(operation):
                return function(*args, **kwargs)

        return cast("F", traced_call)

    def __enter__(self) -> Span:
        # One object may be entered by many tasks at once: what each has entered stands in its own context.
        return Run(self._operation, key=self._key).__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run = contexts.get_value(self._key)
        if isinstance(run, Run):
            run.__exit__(kind, error, trace)


def error_type(error: BaseException) -> str:
    """`error.type` of an exception: its class, with the module unless it is a builtin."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _explain(span: Span, failure: Failure) -> None:
    """The exception on the span, as `record_exception` has it, without the secrets that its message may hold."""
    if not span.is_recording():
        return
    message = redact(failure.error)
    frames = "".join(traceback.format_tb(failure.error.__traceback__, -_MAX_FRAMES))
    span.set_status(Status(StatusCode.ERROR, message))
    span.set_attribute(ERROR_TYPE, failure.error_type)
    span.add_event(
        "exception",
        {
            "exception.type": failure.error_type,
            "exception.message": message,
            "exception.stacktrace": f"{frames}{failure.error_type}: {message}",
        },
    )
