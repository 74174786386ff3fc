"""Sending leaves neither log lines nor spans of the HTTP libraries; everybody else's stay."""

import logging
import threading
from contextvars import copy_context

import pytest
from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled

from otel_monitoring.alerts.notify.channels.http_post import without_http_logs_and_spans


def test_only_what_is_sent_inside_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    inside, go_on = threading.Event(), threading.Event()

    def send() -> None:
        with without_http_logs_and_spans():
            logging.getLogger("httpx").info("POST https://canary")
            logging.getLogger("urllib3.connectionpool").debug("POST https://canary")
            assert not is_http_instrumentation_enabled()
            inside.set()
            go_on.wait(10)
        logging.getLogger("httpx").info("after")

    thread = threading.Thread(target=copy_context().run, args=(send,))
    thread.start()
    assert inside.wait(10)
    logging.getLogger("httpx").info("meanwhile, elsewhere")
    assert is_http_instrumentation_enabled()
    go_on.set()
    thread.join(10)
    assert [record.getMessage() for record in caplog.records] == ["meanwhile, elsewhere", "after"]
