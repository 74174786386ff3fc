"""`traced`: measures an operation of the application as a span and a duration, and raises an alert if it fails."""

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import field
from time import perf_counter
from typing import Final

from opentelemetry import context as contexts
from opentelemetry.context import Context, set_value
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    Span,
    SpanKind,
    Status,
    StatusCode,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

from otel_monitoring.alerts.model import AlertType
from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.database_work.work import WORK, Work, open_work
from otel_monitoring.redact import redact
from otel_monitoring.semconv import ERROR_TYPE, OPERATION_EXCEPTION, OPERATION_NAME, error_type
from otel_monitoring.telemetry.exception_signal import LogEvent
from otel_monitoring.tracing.destination import current_destination
from otel_monitoring.tracing.failure_alert import FailedOperation, raise_alert
from otel_monitoring.tracing.scope import Block, ContextScope, Entry
from otel_monitoring.value import Value

_GUARD: Final = fail_open("tracing of an operation")
_MAX_FRAMES: Final = 50


class Operation(Value):
    """An operation that is traced.

    Attributes:
        name: Name of the span, and `otel_monitoring.operation.name` of the duration; a fixed text.
        attributes: Attributes of the span.
        kind: Kind of the span.
        alert: The type of the alert that a failure raises; None: no alert.
    """

    name: str
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    kind: SpanKind = SpanKind.INTERNAL
    alert: AlertType | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"name: an operation is named by a text, not by {self.name!r}")  # @traced without ()


class Run(Entry):
    """One run of an operation, whose span is current until it ends.

    If the tracer raises, the operation runs without a span.

    Args:
        operation: The operation.
        context: The parent context; None: the current context.
        links: Links of the span.

    Attributes:
        span: The span of the run.
    """

    __slots__ = ("_began", "_destination", "_operation", "_work", "span")

    def __init__(self, operation: Operation, context: Context | None = None, links: Sequence[Link] = ()) -> None:
        self._operation = operation
        self._destination = destination = current_destination()
        self.span: Span = INVALID_SPAN
        before = contexts.get_current()
        inside = before if context is None else context
        with _GUARD:
            self.span = span = destination.tracer.start_span(
                operation.name, inside, operation.kind, operation.attributes, links
            )
            # A tracer that makes no spans returns the current one.
            if span is not get_current_span(inside):
                inside = set_span_in_context(span, inside)
        self._work: Work | None = None
        if destination.work is not None and open_work(inside) is None:
            self._work = destination.work.begin()
            inside = set_value(WORK, self._work, inside)
        self.scope = None if inside is before else ContextScope(inside)
        self._began = perf_counter()

    def end(self, error: BaseException | None) -> None:
        """End the span, record the duration, and raise the alert if the operation has one and failed."""
        duration = perf_counter() - self._began
        # A cancellation, a closed generator and the end of the process are no errors of the operation.
        failure = (
            FailedOperation(self._operation.name, error_type(error), error) if isinstance(error, Exception) else None
        )
        if failure is not None:
            with _GUARD:
                self._describe(failure)
            if self._operation.alert is not None:
                raise_alert(self._operation.alert, failure, self._destination.submit)
        if self._work is not None and self._destination.work is not None:
            self._destination.work.ended(self._work, self._operation.name)
        with _GUARD:
            try:
                self._measure(duration, failure)
            finally:
                self.span.end()

    def _describe(self, failure: FailedOperation) -> None:
        """Set the span's status, and record the exception, its message redacted."""
        span = self.span
        if span.is_recording():
            span.set_status(Status(StatusCode.ERROR, redact(failure.error)))
            span.set_attribute(ERROR_TYPE, failure.error_type)
        event = LogEvent(OPERATION_EXCEPTION, f"{failure.operation} failed", {OPERATION_NAME: failure.operation})
        self._destination.exceptions.record(failure.error, span, event, lambda: _described(failure), since=self._began)

    def _measure(self, duration: float, failure: FailedOperation | None) -> None:
        error = None if failure is None else failure.error_type
        series = self._destination.durations(self._operation.name, error)
        series.record(duration, None if self.scope is None else self.scope.inside)


class traced(Block[Span, Run]):  # noqa: N801 - reads as a decorator and as a statement
    """Trace an operation: as a decorator of a function or coroutine function, or as `with traced("…") as span:`.

    Each run is a span and one measurement in the histogram `otel_monitoring.operation.duration` (seconds; attributes
    `otel_monitoring.operation.name` and, after a failure, `error.type`). An exception is recorded on the span, or as a
    log event (`OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN`), with secrets redacted, sets the span's status, and is raised
    unchanged. A cancellation is no error, nor is a generator that is closed before its end.

    It may be used at import, before a service exists. Spans and durations go to the providers of the current service,
    or to OpenTelemetry's global providers while there is none. One instance may be entered any number of times at once,
    and left in another thread, task or context, as happens in `yield` dependencies and streaming bodies. If a
    synchronous generator is resumed in another context, the span ends and is measured, but is not current there.

    Args:
        name: Name of the span and attribute of the duration: a fixed text, e.g. `billing.run`.
        alert: The alert that a failure raises, with the documented severity of its type; its delivery is not awaited.
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


def _described(failure: FailedOperation) -> dict[str, str]:
    """The attributes that `record_exception` makes of an exception, with its message redacted."""
    message = redact(failure.error)
    frames = "".join(traceback.format_tb(failure.error.__traceback__, -_MAX_FRAMES))
    return {
        "exception.type": failure.error_type,
        "exception.message": message,
        "exception.stacktrace": f"{frames}{failure.error_type}: {message}",
    }
