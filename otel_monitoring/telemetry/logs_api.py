"""OpenTelemetry's logs API, whose module has a private name; without it, no-op replacements."""

from enum import IntEnum
from typing import TYPE_CHECKING, Any

from otel_monitoring import seams

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider as LoggerProvider
    from opentelemetry._logs import NoOpLoggerProvider as NoOpLoggerProvider
    from opentelemetry._logs import SeverityNumber as SeverityNumber
    from opentelemetry._logs import get_logger_provider as get_logger_provider
    from opentelemetry._logs import set_logger_provider as set_logger_provider


class _Severity(IntEnum):
    """`SeverityNumber` of the OpenTelemetry logs data model."""

    INFO = 9
    WARN = 13
    ERROR = 17
    FATAL = 21


class _Nothing:
    """Replaces the API: a logger provider, and its logger, which emits nothing."""

    def get_logger(self, *_: object, **__: object) -> "_Nothing":
        return self

    def emit(self, *_: object, **__: object) -> None:
        return None


_ABSENT: dict[str, Any] = {
    "LoggerProvider": _Nothing,
    "NoOpLoggerProvider": _Nothing,
    "SeverityNumber": _Severity,
    "get_logger_provider": _Nothing,
    "set_logger_provider": lambda _provider: None,
}

if not TYPE_CHECKING:
    _found = {name: seams.LOGS.load("opentelemetry._logs", name) for name in _ABSENT}
    globals().update(_found if seams.LOGS.holds else _ABSENT)
