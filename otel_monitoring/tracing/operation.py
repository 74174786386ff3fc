"""`traced`: an operation of the application as a span and a duration, with an alert when it fails."""

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.util.types import AttributeValue

from otel_monitoring.alerts.model import AlertType
from otel_monitoring.guard import fail_open
from otel_monitoring.redact import redact
from otel_monitoring.semconv import ERROR_TYPE, OPERATION_NAME, error_type
from otel_monitoring.tracing.destination import current_destination
from otel_monitoring.tracing.failure_alert import FailedOperation, raise_alert
from otel_monitoring.tracing.scope import Begun, Block, Scope

_GUARD: Final = fail_open("tracing of an operation")
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


class Run(Begun):
    """One run of an operation: its span is current until it ends.

    What our own side raises is contained: the operation then runs without its span.

    Args:
        operation: What runs.
        context: The parent's context; None: the current one.
        links: Links of the span.

    Attributes:
        span: Its span.
    """

    __slots__ = ("_began", "_destination", "_operation", "scope", "span")

    def __init__(self, operation: Operation, context: Context | None = None, links: Sequence[Link] = ()) -> None:
        self._operation = operation
        self._destination = current_destination()
        self.span: Span = INVALID_SPAN
        inside = contexts.get_current() if context is None else context
        with _GUARD:
            self.span = self._destination.tracer.start_span(
                operation.name, inside, operation.kind, operation.attributes, links
            )
            inside = set_span_in_context(self.span, inside)
        self.scope = Scope(inside)
        self._began = perf_counter()

    def end(self, error: BaseException | None) -> None:
        """End the span and measure the duration; alert where that is asked for."""
        duration = perf_counter() - self._began
        # Cancellation, a generator that is closed and the end of the process are no errors of the operation.
        failure = (
            FailedOperation(self._operation.name, error_type(error), error) if isinstance(error, Exception) else None
        )
        with _GUARD:
            self._measure(duration, failure)
        if failure is not None:
            with _GUARD:
                _explain(self.span, failure)
            if self._operation.alert is not None:
                raise_alert(self._operation.alert, failure, self._destination.submit)
        with _GUARD:
            self.span.end()

    def _measure(self, duration: float, failure: FailedOperation | None) -> None:
        destination = self._destination
        attributes = {OPERATION_NAME: destination.operations(self._operation.name)}
        if failure is not None:
            attributes[ERROR_TYPE] = destination.errors(failure.error_type)
        destination.record(duration, attributes, self.scope.inside)


class traced(Block[Span, Run]):  # noqa: N801 - reads as a decorator and as a statement
    """Trace an operation: as a decorator of a function or coroutine function, or as `with traced("…") as span:`.

    Each run is a span, and a measurement of the histogram `otel_monitoring.operation.duration` (seconds; attributes
    `otel_monitoring.operation.name` and, where it failed, `error.type`). An exception sets the span's status and is
    recorded on it, secrets redacted; then it goes on as it was. Cancellation is no error, and neither is a generator
    that is closed before its end.

    It may be used at import, before any service exists: spans and durations go where the process's service sends its
    own, once that runs, and to OpenTelemetry's global providers before. One object may be entered many times at once,
    and left in another thread, task or context than it was entered in: `yield` dependencies and streaming bodies are.
    Where a synchronous one of these is resumed in another context, the span ends and is measured all the same, but is
    not the current one there.

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
        super().__init__()
        self._operation = Operation(name, attributes or {}, kind, AlertType(alert) if alert is not None else None)

    def __repr__(self) -> str:
        return f"traced({self._operation.name!r})"

    def _begin(self) -> tuple[Span, Run]:
        run = Run(self._operation)
        return run.span, run


def _explain(span: Span, failure: FailedOperation) -> None:
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
