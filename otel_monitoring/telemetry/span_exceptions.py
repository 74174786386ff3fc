"""`take_over`: an exception that the SDK's spans record leaves once, and as it is opted in, as all others do.

A span that is current records the exception that leaves it by `Span.record_exception`, as do the application and the
instrumentations of its HTTP clients. The method belongs to the SDK's class: whoever made the span or its provider, this
package hears of it.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from opentelemetry.sdk.trace import Span
from opentelemetry.trace import SpanKind

from otel_monitoring.runtime.current_service import PerService
from otel_monitoring.semconv import HTTP_REQUEST_METHOD
from otel_monitoring.telemetry.exception_signal import ExceptionSignal, LogEvent
from otel_monitoring.telemetry.logs_api import SeverityNumber

_signals = PerService[ExceptionSignal]()


def take_over(signal: ExceptionSignal, service: object = None) -> Callable[[], None]:
    """Have `signal` record the exceptions that spans of the SDK record in `service`'s application.

    What the application records with attributes or a time of its own stays as it is.

    Returns:
        Ends that.
    """
    original = Span.record_exception
    if not hasattr(original, "__wrapped__"):
        setattr(Span, "record_exception", _through_signal(original))  # noqa: B010 - mypy lets nobody assign a method
    return _signals.use(signal, service)


def _through_signal(original: Callable[..., None]) -> Callable[..., None]:
    @wraps(original)
    def record_exception(span: Span, exception: BaseException, *args: Any, **options: Any) -> None:
        signal = _signals.of_current()
        if signal is None or not signal.leaves or not isinstance(exception, Exception) or not span.is_recording():
            original(span, exception, *args, **options)
        elif args or options.keys() - {"escaped"}:
            original(span, exception, *args, **options)
            signal.told(exception, span)
        else:
            signal.record(exception, span, _event(span))

    return record_exception


def _event(span: Span) -> LogEvent:
    """https://opentelemetry.io/docs/specs/semconv/http/http-exceptions/, and the general one of exceptions."""
    if span.kind is SpanKind.CLIENT and HTTP_REQUEST_METHOD in (span.attributes or {}):
        return LogEvent("http.client.request.exception", "HTTP request failed", severity=SeverityNumber.WARN)
    return LogEvent("exception", f"{span.name} failed")
