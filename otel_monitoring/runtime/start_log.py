"""`announce`: lines that people want to read at the start, in the log and, without code, on stderr."""

import logging
import sys
from contextlib import suppress

_logger = logging.getLogger("otel_monitoring")
_on_stderr = False


def show_announcements() -> None:
    """From now on write announcements to stderr as well, where the application's logging does not show level INFO."""
    global _on_stderr
    _on_stderr = True


def announce(line: str) -> None:
    """Log `line` at level INFO: what people want to know at the start."""
    _logger.info("%s", line)
    if _on_stderr and not _shows_info():
        with suppress(Exception):  # no stderr, or one that is closed
            sys.stderr.write(f"otel_monitoring: {line}\n")


def _shows_info() -> bool:
    """Whether a handler shows INFO records to people; OpenTelemetry's handlers only export them."""
    if not _logger.isEnabledFor(logging.INFO):
        return False
    logger: logging.Logger | None = _logger
    while logger is not None:
        for handler in logger.handlers:
            exports = any(kind.__module__.startswith("opentelemetry") for kind in type(handler).__mro__)
            if handler.level <= logging.INFO and not exports and not isinstance(handler, logging.NullHandler):
                return True
        logger = logger.parent if logger.propagate else None
    return False
