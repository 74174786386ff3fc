"""An exception that spans of the SDK record by themselves leaves once, too, and as it is opted in."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from time import perf_counter
from typing import Any

import aiohttp
import httpx
import pytest
import requests
from opentelemetry.sdk.trace import Span, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_monitoring.telemetry.exception_signal import ExceptionSignal, LogEvent
from otel_monitoring.telemetry.span_exceptions import take_over
from tests.instrumentation.test_http_client import CLIENTS, instrumented
from tests.ports import free_port
from tests.telemetry.test_exception_signal import EVENT, OPT_IN, Records, raised

COUNTS = pytest.mark.parametrize(("opt_in", "events", "logs"), [("", 1, 0), ("logs", 0, 1), ("logs/dup", 1, 1)])


class Traced:
    """Spans of an application, and an `ExceptionSignal` that has taken over what they record."""

    def __init__(self) -> None:
        self.records, self.exporter = Records(), InMemorySpanExporter()
        self.signal = ExceptionSignal(self.records.logger)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer: Any = provider.get_tracer("app")

    @property
    def events(self) -> list[dict[str, Any]]:
        spans = self.exporter.get_finished_spans()
        return [dict(event.attributes or {}) for span in spans for event in span.events]

    def record(self, error: Exception, span: Any) -> None:
        self.signal.record(error, span, LogEvent("http.server.request.exception", "request failed"))


@pytest.fixture
def traced() -> Iterator[Traced]:
    made = Traced()
    leave = take_over(made.signal)
    yield made
    leave()


def remade(monkeypatch: pytest.MonkeyPatch, opt_in: str) -> Iterator[Traced]:
    monkeypatch.setenv(OPT_IN, opt_in)
    made = Traced()
    leave = take_over(made.signal)
    yield made
    leave()


def in_current_spans(traced: Traced, error: Exception) -> None:
    with traced.tracer.start_as_current_span("mine"), traced.tracer.start_as_current_span("inner"):
        raise error


def in_an_entered_span(traced: Traced, error: Exception) -> None:
    with traced.tracer.start_span("mine"):
        raise error


def by_hand(traced: Traced, error: Exception) -> None:
    with traced.tracer.start_as_current_span("mine", record_exception=False) as span:
        span.record_exception(error)
        raise error


@COUNTS
@pytest.mark.parametrize("work", [in_current_spans, in_an_entered_span, by_hand])
def test_what_a_span_inside_has_recorded_is_not_recorded_again(
    monkeypatch: pytest.MonkeyPatch, work: Callable[..., None], opt_in: str, events: int, logs: int
) -> None:
    for traced in remade(monkeypatch, opt_in):
        with traced.tracer.start_as_current_span("GET /", record_exception=False) as request:
            try:
                work(traced, raised())
            except ValueError as error:
                traced.record(error, request)
        assert (len(traced.events), len(traced.records)) == (events, logs)
        for event in traced.events:
            assert event.keys() == {"exception.type", "exception.message", "exception.stacktrace"}


def test_what_our_own_span_inside_has_recorded_is_not_recorded_again(traced: Traced) -> None:
    with suppress(ValueError), traced.tracer.start_as_current_span("mine") as span:
        error = raised()
        traced.record(error, span)
        raise error
    assert len(traced.events) == 1


@COUNTS
@pytest.mark.parametrize("get", CLIENTS)
def test_the_exception_of_an_outgoing_request_leaves_once(
    monkeypatch: pytest.MonkeyPatch, get: Callable[[str], None], opt_in: str, events: int, logs: int
) -> None:
    for traced in remade(monkeypatch, opt_in):
        with instrumented() as kept, kept.tracers.get_tracer("app").start_as_current_span("GET /") as request:
            with pytest.raises((httpx.ConnectError, aiohttp.ClientConnectorError, requests.ConnectionError)) as caught:
                get(f"http://127.0.0.1:{free_port()}/")
            traced.record(caught.value, request)
        client, server = kept.exporter.get_finished_spans()
        assert (len(client.events), len(server.events), len(traced.records)) == (events, 0, logs)
        for entry in traced.records.exporter.get_finished_logs():
            record = entry.log_record
            assert (record.event_name, record.severity_text) == ("http.client.request.exception", "WARN")
            assert client.context is not None
            assert (record.trace_id, record.span_id) == (client.context.trace_id, client.context.span_id)


@COUNTS
def test_what_the_application_records_in_its_own_words_stays(
    monkeypatch: pytest.MonkeyPatch, opt_in: str, events: int, logs: int
) -> None:
    for traced in remade(monkeypatch, opt_in):
        with traced.tracer.start_as_current_span("GET /") as span:
            error = raised()
            span.record_exception(error, {"order": 1})
            traced.record(error, span)
        assert [event["order"] for event in traced.events if "order" in event] == [1]
        assert (len(traced.events), len(traced.records)) == (1 if not logs else events + 1, logs)


def test_a_cancellation_and_the_end_of_the_process_are_recorded_as_the_sdk_does(traced: Traced) -> None:
    with suppress(SystemExit), traced.tracer.start_span("mine"):
        raise SystemExit(3)
    assert [event["exception.type"] for event in traced.events] == ["SystemExit"]


def test_where_nobody_takes_over_a_span_records_as_the_sdk_does(traced: Traced) -> None:
    take_over(traced.signal)()
    with suppress(ValueError):
        in_current_spans(traced, raised())
    assert [event["exception.escaped"] for event in traced.events] == ["False", "False"]


def test_logs_alone_without_a_logger_leaves_it_to_the_sdk(monkeypatch: pytest.MonkeyPatch, traced: Traced) -> None:
    monkeypatch.setenv(OPT_IN, "logs")
    leave = take_over(ExceptionSignal(None))
    with suppress(ValueError), traced.tracer.start_as_current_span("mine"):
        raise raised()
    leave()
    assert len(traced.events) == 1


def test_the_method_is_replaced_once(traced: Traced) -> None:
    replaced = Span.record_exception
    take_over(traced.signal)()
    assert Span.record_exception is replaced


def test_the_exceptions_of_a_group_that_have_left_are_not_recorded_as_the_group(traced: Traced) -> None:
    class GroupError(Exception):
        """As `ExceptionGroup`, which Python 3.10 does not have."""

        exceptions: tuple[ValueError, ...] = (raised(), raised())

    with traced.tracer.start_as_current_span("GET /") as request:
        for part in GroupError.exceptions:
            with suppress(ValueError), traced.tracer.start_as_current_span("part"):
                raise part
        traced.record(GroupError(), request)
        GroupError.exceptions = (*GroupError.exceptions, raised())
        traced.record(GroupError(), request)
    assert [event["exception.type"].rpartition(".")[2] for event in traced.events] == [
        "ValueError",
        "ValueError",
        "GroupError",
    ]


def test_without_a_trace_an_exception_that_is_raised_again_leaves_again(traced: Traced) -> None:
    error = raised()
    for _ in range(2):
        began = perf_counter()
        traced.signal.record(error, None, EVENT, since=began)
        traced.signal.record(error, None, EVENT, since=began)  # by what is around
    assert len(traced.records) == 2
