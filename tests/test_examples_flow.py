"""What `make flow` makes of exported spans: the tree, and the gaps it must not overlook."""

import gzip
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from examples.earlybird.demo_options import UsageError
from examples.earlybird.flow import environment, pass_on
from examples.earlybird.receiver import Destination, Received, Receiver
from examples.earlybird.story import Span, Story
from otel_monitoring.config import Settings
from tests.otlp_sink import HttpSink
from tests.ports import free_port

MS = 1_000_000


def span(name: str, number: int, parent: int = 0, *, trace: int = 1, link: int = 0, order: str = "o-1") -> Span:
    return Span(
        service=f"service-{trace}",
        name=name,
        trace_id=bytes([trace]),
        span_id=bytes([number]),
        parent_id=bytes([parent]) if parent else b"",
        links=(bytes([link]),) if link else (),
        start=number * MS,
        end=(number + 2) * MS,
        attributes={"order.id": order} if order else {},
        failed=False,
    )


def line(order: str, trace: int) -> Received:
    attributes = [SimpleNamespace(key="order.id", value=SimpleNamespace(string_value=order))] if order else []
    body = SimpleNamespace(string_value="something happened")
    return Received("service", SimpleNamespace(attributes=attributes, trace_id=bytes([trace]), body=body))


WHOLE = [
    span("request", 1),
    span("insert", 2, 1),
    span("call", 3, 1),
    span("work", 4, trace=2, link=3),
    span("update", 5, 4, trace=2),
    span("other", 6, trace=3, order="o-2"),
]


def test_the_tree_follows_parents_and_links() -> None:
    story = Story("o-1", reversed(WHOLE))
    assert [row.rsplit("  +", 1)[0].rstrip() for row in story.lines()] == [
        "service-1  request",
        "service-1  ├── insert",
        "service-1  └── call",
        "service-2      └┄▷ work",
        "service-2          └── update",
    ]
    assert story.lines()[3].split("+")[1].split() == ["3.0", "ms", "2.0", "ms", "linked"]
    assert story.services == ["service-1", "service-2"]
    assert story.seconds == pytest.approx(0.006)
    assert story.complaints([line("o-1", 1), line("", 3)]) == []


@pytest.mark.parametrize(
    ("spans", "complaint"),
    [
        ([*WHOLE, span("lost", 9, trace=4)], "service-4: lost hangs together with nothing"),
        ([*WHOLE, span("orphan", 9, 8, trace=2)], "service-2: orphan hangs together with nothing"),
        ([*WHOLE, span("silent", 9, 5, trace=2, order="")], "service-2: silent says nothing of the order"),
    ],
)
def test_gaps_are_named(spans: list[Span], complaint: str) -> None:
    assert Story("o-1", spans).complaints([]) == [complaint]


@pytest.mark.parametrize("order", ["", "o-2"])
def test_a_log_line_without_the_order_is_a_gap(order: str) -> None:
    (complaint,) = Story("o-1", WHOLE).complaints([line(order, 2)])
    assert complaint == "service: the log line 'something happened' says nothing of it"


def test_an_order_that_nobody_exported_is_one_clear_line() -> None:
    with pytest.raises(LookupError, match="no span of the order o-9"):
        Story("o-9", WHOLE)


def export(endpoint: str) -> httpx.Response:
    message = ExportTraceServiceRequest()
    group = message.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = "orders"
    group.scope_spans.add().spans.add(name="work")
    body = gzip.compress(message.SerializeToString())
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/x-protobuf"}
    return httpx.post(f"{endpoint}/v1/traces", content=body, headers=headers, trust_env=False)


@pytest.fixture
def receiver(request: pytest.FixtureRequest) -> Any:
    receiver = Receiver(getattr(request, "param", {}))
    yield receiver
    receiver.close()


def test_the_receiver_keeps_and_passes_on() -> None:
    with HttpSink() as sink:
        receiver = Receiver({"traces": Destination(f"{sink.endpoint}/v1/traces", {"x-key": "k"})})
        assert export(receiver.endpoint).status_code == 200
        receiver.close()
        (passed_on,) = sink.requests
        assert passed_on.headers["x-key"] == "k"
        assert [one.name for one in sink.spans()] == ["work"]
    assert [(got.service, got.item.name) for got in receiver.spans] == [("orders", "work")]
    assert receiver.complaints == set()


def test_where_nobody_takes_it_the_story_goes_on_with_a_complaint() -> None:
    receiver = Receiver({"traces": Destination(f"http://127.0.0.1:{free_port()}/v1/traces")})
    assert export(receiver.endpoint).status_code == 200
    receiver.close()
    assert len(receiver.spans) == 1
    (complaint,) = receiver.complaints
    assert complaint.startswith("traces were not passed on: ")


def test_the_receiver_takes_nothing_else(receiver: Receiver) -> None:
    assert httpx.post(f"{receiver.endpoint}/v1/other", content=b"x", trust_env=False).status_code == 404
    assert httpx.get(receiver.endpoint, trust_env=False).status_code == 501


def test_the_environment_says_where_everything_goes_as_well() -> None:
    settings = Settings.load(otlp_endpoint="http://collector:4318", otlp_headers="x-key=k", metrics_exporter="none")
    assert pass_on(settings) == {
        "traces": Destination("http://collector:4318/v1/traces", {"x-key": "k"}),
        "logs": Destination("http://collector:4318/v1/logs", {"x-key": "k"}),
    }
    assert pass_on(Settings.load()) == {}
    with pytest.raises(UsageError, match="http/protobuf only"):
        pass_on(Settings.load(otlp_endpoint="http://collector:4317", otlp_protocol="grpc"))


def test_the_processes_get_our_variables_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=k")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    env = environment("http://127.0.0.1:1", "mongodb://db", "http://127.0.0.1:2")
    assert env["OTEL_EXPORTER_OTLP_HEADERS"] is env["OTEL_TRACES_SAMPLER"] is None
    assert env["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:1"
