"""The SDK's classes for log records, whose modules have private names; without them, logs are not exported."""

from typing import TYPE_CHECKING, Any

from otel_monitoring import seams
from otel_monitoring.environment import without_resource_variables

if TYPE_CHECKING:
    from opentelemetry._logs import LogRecord as LogRecord
    from opentelemetry.sdk._logs import LoggerProvider as LoggerProvider
    from opentelemetry.sdk._logs import LogRecordProcessor as LogRecordProcessor
    from opentelemetry.sdk._logs import ReadableLogRecord as ReadableLogRecord
    from opentelemetry.sdk._logs import ReadWriteLogRecord as ReadWriteLogRecord
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor as BatchLogRecordProcessor
    from opentelemetry.sdk._logs.export import LogRecordExporter as LogRecordExporter
    from opentelemetry.sdk._logs.export import LogRecordExportResult as LogRecordExportResult

_NAMES = {
    "opentelemetry._logs": ("LogRecord",),
    "opentelemetry.sdk._logs": ("LoggerProvider", "LogRecordProcessor", "ReadWriteLogRecord", "ReadableLogRecord"),
    "opentelemetry.sdk._logs.export": ("BatchLogRecordProcessor", "LogRecordExporter", "LogRecordExportResult"),
}


def available() -> bool:
    """Whether log records can be exported with the installed libraries."""
    return seams.LOGS.holds


class _Absent:
    """Replaces the SDK's classes; it is never instantiated."""


if not TYPE_CHECKING:
    with without_resource_variables():  # the SDK runs detectors when it is imported, and waits for them
        _found: dict[str, Any] = {
            name: seams.LOGS.load(module, name) for module, names in _NAMES.items() for name in names
        }
    globals().update(_found if available() else dict.fromkeys(_found, _Absent))
