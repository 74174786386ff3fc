"""`log_record_of`: a record of `logging` as a log record of OpenTelemetry.

By hand, because the handler of opentelemetry-instrumentation-logging, which makes the same of it, loads a MiB of what
only instrumentations need.
"""

import logging
import traceback
from time import time_ns
from typing import Any, Final

from opentelemetry.context import get_current

from otel_monitoring.telemetry.logs_api import SeverityNumber
from otel_monitoring.telemetry.logs_sdk import LogRecord

_OF_EVERY_RECORD: Final = frozenset((*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"))
_EVENT_NAMES: Final = ("otel.event.name", "event.name")  # the second is the deprecated one
_SEVERITY_TEXTS: Final = {"WARNING": "WARN", "CRITICAL": "FATAL"}
_FATAL: Final = 5
"""The tens of the highest level of `logging`."""


def log_record_of(record: logging.LogRecord, body: str) -> LogRecord:
    """The log record with `body`, in the current context; extras are attributes, and so is what an exception says."""
    attributes: dict[str, Any] = {name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD}
    names = [name for name in (attributes.pop(key, None) for key in _EVENT_NAMES) if name is not None]
    if record.exc_info:
        attributes |= _exception(*record.exc_info)
    return LogRecord(
        timestamp=int(record.created * 1e9),
        observed_timestamp=time_ns(),
        context=get_current(),
        severity_text=_SEVERITY_TEXTS.get(record.levelname, record.levelname),
        severity_number=_severity(record.levelno),
        body=body,
        attributes=attributes,
        event_name=names[0] if names else None,
    )


def _severity(level: int) -> SeverityNumber:
    """Each of `logging`'s levels has four numbers: 20 to 23 are INFO to INFO4, and so are those above, up to 29."""
    tens = min(level // 10, _FATAL)
    return SeverityNumber(1 + 4 * tens + min(level - 10 * tens, 3) if tens > 0 else 0)


def _exception(kind: Any, error: BaseException | None, trace: Any) -> dict[str, str]:
    found = {}
    if kind is not None:
        found["exception.type"] = kind.__name__
    if error is not None and error.args:
        found["exception.message"] = str(error.args[0])
    if trace is not None:
        found["exception.stacktrace"] = "".join(traceback.format_exception(kind, error, trace))
    return found
