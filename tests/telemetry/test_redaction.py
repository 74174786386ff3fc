"""What leaves over OTLP about exceptions tells no secret, whoever recorded it; all else of it arrives as it was."""

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from otel_monitoring.config import Settings
from otel_monitoring.metrics.reader import SnapshotReader
from otel_monitoring.redact import redact_lines
from otel_monitoring.telemetry.providers import Telemetry
from tests.otlp_sink import GrpcSink, HttpSink, Sink

SECRET = "hunter2Canary"
Exported = tuple[Telemetry, Callable[[], Sink]]
TEXTS = [
    f"login failed: password={SECRET}",
    f"mongodb://app:{SECRET}@db:27017 refused",
    f'{{"body": "{{\\"api_key\\": \\"{SECRET}\\"}}"}}',
    f"Authorization: Bearer {SECRET}.x",
    f"first line\ntoken: '{SECRET}'\nlast line",
]


class Hostile(Exception):  # noqa: N818 - it is about its text
    """An exception of the application's."""


@pytest.fixture(params=[HttpSink, GrpcSink])
def exported(request: pytest.FixtureRequest) -> Iterator[Exported]:
    sink: Sink
    with request.param() as sink:
        protocol = "grpc" if isinstance(sink, GrpcSink) else "http/protobuf"
        settings = Settings.load(otlp_endpoint=sink.endpoint, otlp_protocol=protocol)
        telemetry = Telemetry(settings, service_name="orders", service_version="1")
        telemetry.start(SnapshotReader(0.0))

        def finished() -> Sink:
            telemetry.stop(10)
            return sink

        yield telemetry, finished
        telemetry.stop(1)


@pytest.mark.parametrize("text", TEXTS)
def test_span_events_and_status(exported: Exported, text: str) -> None:
    telemetry, finished = exported
    tracer = telemetry.tracer_provider.get_tracer("application")
    link = trace.Link(trace.SpanContext(1, 2, is_remote=True))

    def work() -> None:
        with tracer.start_as_current_span("order", kind=SpanKind.PRODUCER, links=[link]) as span:
            span.set_attribute("order.id", 17)
            span.add_event("paid", {"amount": 3.5})
            raise Hostile(text)

    with pytest.raises(Hostile):
        work()
    with tracer.start_as_current_span("untouched"):
        pass
    spans = finished().spans()
    assert SECRET not in str(spans)
    (order,) = [span for span in spans if span.name == "order"]
    assert [event.name for event in order.events] == ["paid", "exception"]
    told = {a.key: a.value.string_value for a in order.events[1].attributes}
    assert told["exception.type"].endswith("Hostile")
    assert "[REDACTED]" in told["exception.message"]
    assert told["exception.stacktrace"].startswith("Traceback (most recent call last):\n")
    assert "raise Hostile(text)\n" in told["exception.stacktrace"]
    assert "[REDACTED]" in order.status.message
    assert (order.kind, len(order.links)) == (SpanKind.PRODUCER.value + 1, 1)
    assert [(a.key, a.value.int_value) for a in order.attributes] == [("order.id", 17)]


@pytest.mark.parametrize("text", TEXTS)
def test_log_records(exported: Exported, text: str) -> None:
    _, finished = exported
    logger = logging.getLogger("application")
    error = Hostile(text)
    logger.error("order failed: %s", error, exc_info=error)
    logger.error("no trace, but %s", error)
    logger.warning("with a trace: %s", error, exc_info=error)
    logger.warning("ordinary: ana@example.com")
    records = finished().records()
    assert SECRET not in str(records)
    about = [record for record in records if "trace" in str(record) or "order" in record.body.string_value]
    assert len(about) == 3
    assert all("[REDACTED]" in record.body.string_value for record in about)
    told = [{a.key: a.value.string_value for a in record.attributes} for record in about if record.attributes]
    assert all("[REDACTED]" in one["exception.message"] for one in told if "exception.message" in one)
    assert "ordinary: ana@example.com" in str(records), "what is about no error is the application's own affair"


@pytest.mark.parametrize("server", ["uvicorn", "gunicorn", "hypercorn"])
def test_access_logs_leave_without_the_values_of_queries_and_other_records_as_they_are(
    exported: Exported, server: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, finished = exported
    logger, other = logging.getLogger(f"{server}.access"), logging.getLogger("application")
    # uvicorn's own configuration, which another test may have loaded, lets nothing propagate, and has a level.
    caplog.set_level(logging.INFO, logger.name)
    for one in (logger, logging.getLogger(server)):
        monkeypatch.setattr(one, "propagate", True)
    monkeypatch.setattr(logger, "disabled", False)
    line = '127.0.0.1:9 - "GET /orders?name=Anna&code=17&flag&empty= HTTP/1.1" 200'
    logger.warning('%s - "%s %s HTTP/%s" %d', "127.0.0.1:9", "GET", "/orders?name=Anna&code=17&flag&empty=", "1.1", 200)
    other.warning(line)
    bodies = [record.body.string_value for record in finished().records()]
    assert bodies == [
        '127.0.0.1:9 - "GET /orders?name=REDACTED&code=REDACTED&flag&empty=REDACTED HTTP/1.1" 200',
        line,
    ]


def test_the_urls_that_errors_quote_leave_without_the_values_of_queries(exported: Exported) -> None:
    telemetry, finished = exported
    quoted = "no answer for url: /orders?name=Anna&code=17&flag (host='shop')"
    with (
        suppress(ValueError),
        telemetry.tracer_provider.get_tracer("application").start_as_current_span("GET"),
    ):
        raise ValueError(quoted)
    logging.getLogger("application").error(quoted, exc_info=ValueError(quoted))
    sink = finished()
    assert "Anna" not in str(sink.spans())
    assert "Anna" not in str(sink.records())
    assert "/orders?name=REDACTED&code=REDACTED&flag (host=" in sink.spans()[0].status.message
    assert "name=REDACTED&code=REDACTED&flag (host" in sink.records()[0].body.string_value


def test_log_records_of_errors_tell_no_secret_in_anything_nested(exported: Exported) -> None:
    _, finished = exported
    logger = logging.getLogger("application")
    nested = {
        "user": {"password": SECRET, "id": 17},
        "list": [f"token={SECRET}", 3.5, True, f"api_key={SECRET}".encode()],
    }
    logger.error("order failed", extra={"context": nested, "Authorization": SECRET, "order": 4711, f"pwd={SECRET}": 1})
    logger.error({"event": "refused", "why": f"password={SECRET}", "deep": [[[f"Bearer {SECRET}.x"]]]})
    logger.error(ValueError(f"secret={SECRET}"))
    logger.error("%s", [f"cookie: sid={SECRET}"])
    records = finished().records()
    assert len(records) == 4
    assert SECRET not in str(records)
    assert "4711" in str(records)
    assert "refused" in str(records)


def test_an_exception_event_tells_no_secret_whatever_it_is_called(exported: Exported) -> None:
    telemetry, finished = exported
    with telemetry.tracer_provider.get_tracer("application").start_as_current_span("order") as span:
        span.record_exception(
            ValueError("x"), attributes={"password": SECRET, "tried": [f"token={SECRET}", "b"], "n": 3}
        )
        span.add_event("error", {"exception.message": f"password={SECRET}", "exception.type": "E"})
    (order,) = finished().spans()
    assert SECRET not in str(order)
    assert [
        value.string_value
        for a in order.events[0].attributes
        if a.key == "tried"
        for value in a.value.array_value.values
    ] == [
        "token=[REDACTED]",
        "b",
    ]


def test_lines_stay_lines_and_long_texts_are_cut_at_one() -> None:
    assert redact_lines("a\npassword=x y\n\nb") == "a\npassword=[REDACTED] y\n\nb"
    told = redact_lines("\n".join(f"line {number}" for number in range(10_000)), limit=1000)
    assert len(told) <= 1002
    assert told.endswith("\n…")
