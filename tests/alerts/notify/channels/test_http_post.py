"""`Retry-After` in both of its forms; sending leaves neither log lines nor spans of the HTTP libraries."""

import logging
import threading
from contextvars import copy_context
from datetime import datetime, timezone

import pytest
from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled

from otel_monitoring.alerts.notify.channels.http_post import retry_after, without_http_logs_and_spans
from tests.waiting import PATIENCE

NOW = datetime(2026, 5, 28, 20, 26, 40, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("30", 30),
        (" 30 ", 30),
        ("999999999999", 86_400),
        ("Thu, 28 May 2026 20:27:40 GMT", 60),
        ("Thu, 28 May 2026 20:27:40 -0000", 60),
        ("Thu, 28 May 2026 20:00:00 GMT", 0),
        ("Thu, 28 May 2099 20:00:00 GMT", 86_400),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1e9", None),
        ("٣", None),
        ("Thu, 99 May 2026 20:27:40 GMT", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert retry_after(value, NOW) == seconds


def test_sending_hides_its_own_log_lines_and_spans_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    inside, go_on = threading.Event(), threading.Event()

    def send() -> None:
        with without_http_logs_and_spans():
            logging.getLogger("httpx").info("POST https://canary")
            logging.getLogger("urllib3.connectionpool").debug("POST https://canary")
            assert not is_http_instrumentation_enabled()
            inside.set()
            go_on.wait(PATIENCE)
        logging.getLogger("httpx").info("after")

    thread = threading.Thread(target=copy_context().run, args=(send,))
    thread.start()
    assert inside.wait(PATIENCE)
    logging.getLogger("httpx").info("meanwhile, elsewhere")
    assert is_http_instrumentation_enabled()
    go_on.set()
    thread.join(PATIENCE)
    assert [record.getMessage() for record in caplog.records] == ["meanwhile, elsewhere", "after"]
