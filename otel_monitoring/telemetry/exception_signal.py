"""`ExceptionSignal`: an unhandled exception leaves once, as an event of its span or as a log event.

`OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN` decides (https://opentelemetry.io/docs/specs/semconv/exceptions/): `logs` means
log events, `logs/dup` both, anything else span events.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from time import perf_counter, time_ns
from traceback import TracebackException
from typing import Any, Final, NamedTuple, TypeAlias

from opentelemetry.trace import Span, set_span_in_context

from otel_monitoring.environment import exception_signals
from otel_monitoring.guard import fail_open
from otel_monitoring.semconv import error_type
from otel_monitoring.telemetry.logs_api import SeverityNumber

Describe: TypeAlias = Callable[[], Mapping[str, str]]

_MARK: Final = "_otel_monitoring_left"
_guard = fail_open("recording an exception")


class LogEvent(NamedTuple):
    """How an exception is told as a log event; the exception itself is added.

    Attributes:
        name: The event's name.
        body: What happened.
        attributes: Where it happened.
        severity: How severe it is.
    """

    name: str
    body: str
    attributes: Mapping[str, str] | None = None
    severity: SeverityNumber = SeverityNumber.ERROR


class _Left(NamedTuple):
    """An exception has left.

    Attributes:
        trace_id: In this trace; 0: in none. It may be raised in another one again.
        at: When, in seconds of `time.perf_counter`.
    """

    trace_id: int
    at: float


class ExceptionSignal:
    """Records exceptions; usable in any thread, and never raises.

    An exception that leaves several spans of a trace, from the inside out, is recorded at the innermost of those that
    record exceptions. Where the span is not exported, because spans are not or the sampler has left it out, it is a log
    event.

    Args:
        logger: Emits log events; None: there are none.

    Attributes:
        leaves: Whether exceptions of exported spans leave. False: only log events are wanted, and there is no logger.
    """

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._spans, self._logs = exception_signals()
        self.leaves = self._spans or logger is not None

    def record(
        self,
        error: Exception,
        span: Span | None,
        event: LogEvent,
        describe: Describe | None = None,
        *,
        since: float = 0.0,
    ) -> None:
        """Record an exception, unless it, or each one in a group of exceptions, has left in this trace already.

        Args:
            error: The exception.
            span: The span that it leaves; None: there is none.
            event: What it is as a log event.
            describe: Returns its attributes `exception.*`; None: they say all of it, with its causes.
            since: When the work that it ends began, in seconds of `time.perf_counter`: without a trace, an exception
                that left earlier is raised again.
        """
        with _guard:
            trace_id = 0 if span is None else span.get_span_context().trace_id
            if _has_left(error, trace_id, since):
                return
            told = span if span is not None and self._spans and span.is_recording() else None
            logger = self._logger if self._logs or told is None else None
            if told is None and logger is None:
                return
            described = describe() if describe is not None else _described(error)
            if told is not None:
                told.add_event("exception", described)
            if logger is not None:
                _emit(logger, event, described, span)
            _mark(error, _Left(trace_id, perf_counter()))

    def told(self, error: Exception, span: Span) -> None:
        """The application has made a span event of `error` itself; log events are still made where they are wanted."""
        if not self._logs:
            _mark(error, _Left(span.get_span_context().trace_id, perf_counter()))


def _described(error: Exception) -> Mapping[str, str]:
    # `Span.record_exception` adds `exception.escaped`, which is deprecated.
    trace = TracebackException.from_exception(error)
    return {
        "exception.type": error_type(error),
        "exception.message": str(trace),  # also where the exception's own fails
        "exception.stacktrace": "".join(trace.format()),
    }


def _emit(logger: Any, event: LogEvent, described: Mapping[str, str], span: Span | None) -> None:
    logger.emit(
        event_name=event.name,
        timestamp=time_ns(),
        # The span that it leaves need not be current any more.
        context=None if span is None else set_span_in_context(span),
        severity_number=event.severity,
        severity_text=event.severity.name,
        body=event.body,
        attributes={**(event.attributes or {}), **described},
    )


def has_left(error: BaseException | None) -> bool:
    """Whether `error`, or each one in a group of exceptions, has left already."""
    return error is not None and (_left(error) is not None or _each(error, has_left))


def _has_left(error: BaseException, trace_id: int, since: float) -> bool:
    left = _left(error)
    if left is not None and left.trace_id == trace_id and (trace_id or left.at >= since):
        return True
    return _each(error, lambda one: _has_left(one, trace_id, since))


def _each(error: BaseException, holds: Callable[[BaseException], bool]) -> bool:
    """Whether something holds for each exception of a group; False: it is none."""
    parts = _parts(error)
    return parts != () and all(map(holds, parts))


def _parts(error: BaseException) -> tuple[BaseException, ...]:
    parts = getattr(error, "exceptions", None)
    return parts if isinstance(parts, tuple) else ()


def _left(error: BaseException | None) -> _Left | None:
    left = getattr(error, _MARK, None)
    return left if isinstance(left, _Left) else None


def _mark(error: BaseException, left: _Left) -> None:
    with suppress(AttributeError, TypeError):  # a class that refuses attributes: it may leave twice
        setattr(error, _MARK, left)
    for part in _parts(error):  # the stack of a group has those of its parts, one of which may be raised alone
        _mark(part, left)
