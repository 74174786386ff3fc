"""Sending without a trace: the address of a webhook is a secret, and HTTP libraries like to tell it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry.instrumentation.utils import suppress_http_instrumentation

_HTTP_LOGGERS = ("httpx", "apprise", "urllib3.connectionpool")
_sending: ContextVar[bool] = ContextVar("otel_monitoring_sending", default=False)


class _DropOurs(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not _sending.get()


_DROP_OURS = _DropOurs()


@contextmanager
def without_http_logs_and_spans() -> Iterator[None]:
    """What is sent inside leaves no log line and no span of the HTTP library: both would carry the full URL.

    The application's own requests are not touched, whichever thread or task makes them.
    """
    for name in _HTTP_LOGGERS:
        logging.getLogger(name).addFilter(_DROP_OURS)  # does nothing where it is there already
    token = _sending.set(True)
    try:
        with suppress_http_instrumentation():
            yield
    finally:
        _sending.reset(token)
