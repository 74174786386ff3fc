"""What the Collector acknowledged arrives, over outages, crashes and restarts; what it cannot take it says at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.integration import otlp
from tests.integration.collector import Collector, collecting
from tests.integration.earlybird import earlybird
from tests.integration.processes import serving
from tests.otlp_sink import HttpSink, Mode, Sink
from tests.ports import free_port
from tests.waiting import PATIENCE, eventually, long_before

pytestmark = pytest.mark.integration

SMALL = {"OTELCOL_QUEUE_SIZE": "2000"}


@pytest.fixture
def soon(tmp_path: Path) -> str:
    """A file that shortens the pauses between attempts, not how long they go on."""
    path = tmp_path / "soon.yaml"
    path.write_text("exporters: {otlp_http/otlp: {retry_on_failure: {initial_interval: 100ms, max_interval: 500ms}}}")
    return str(path)


def ids(sink: Sink) -> set[bytes]:
    return {span.span_id for span in sink.spans()}


def fill(collector: Collector) -> httpx.Response:
    """Send until not one span more is taken; the answer to that one."""

    def refused(spans: int) -> httpx.Response | None:
        answer = collector.post("traces", otlp.traces(*(otlp.span() for _ in range(spans))))
        return answer if answer.status_code != 200 else None

    for spans in (200, 20):
        eventually(partial(refused, spans), "the queue is full")
    return eventually(partial(refused, 1), "the queue is full")


def points(sink: Sink) -> int:
    """How many data points arrived."""
    return sum(len(getattr(metric, metric.WhichOneof("data")).data_points) for metric in sink.metrics())


def test_what_was_acknowledged_in_an_outage_survives_a_crash(tmp_path: Path, soon: str) -> None:
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    with collecting(tmp_path, "base", "backend-otlp", soon, OTLP_ENDPOINT=endpoint) as collector:
        with earlybird(tmp_path, collector.endpoint) as service:
            service.serve(150)
        accepted = {
            name: collector.figure(f"otelcol_receiver_accepted_{name}")
            for name in ("spans", "metric_points", "log_records")
        }
        assert all(accepted.values())
        collector.kill()
        collector.start()
        with HttpSink("503", port=port) as sink:
            sink.wait(lambda s: s.attempts >= 3)  # it is under way: the worst moment
            collector.kill()
            collector.start()
            sink.mode = "ok"
            sink.wait(lambda s: len(ids(s)) == accepted["spans"], PATIENCE)
            eventually(lambda: len(sink.records()) >= accepted["log_records"], "all logs arrive")
            eventually(lambda: points(sink) >= accepted["metric_points"], "all points arrive")


def stream(collector: Collector, acknowledged: list[bytes]) -> None:
    """Send spans until nobody listens any more, and note those that were acknowledged."""
    while True:
        spans = [otlp.span() for _ in range(20)]
        try:
            collector.send("traces", otlp.traces(*spans))
        except httpx.TransportError:
            return
        acknowledged += [span.span_id for span in spans]


def test_what_was_acknowledged_survives_crashes_while_the_backend_is_well(tmp_path: Path) -> None:
    acknowledged: list[bytes] = []
    with (
        ThreadPoolExecutor() as senders,
        HttpSink() as sink,
        collecting(tmp_path, "base", "backend-otlp", OTLP_ENDPOINT=sink.endpoint) as collector,
    ):
        for _ in range(3):
            sending = [senders.submit(stream, collector, acknowledged) for _ in range(2)]
            eventually(lambda: ids(sink) and set(acknowledged) - ids(sink), "some have arrived, some are on their way")
            collector.kill()
            for sender in sending:
                sender.result()
            collector.start()
        sink.wait(lambda s: set(acknowledged) <= ids(s), PATIENCE)


@pytest.fixture(scope="module")
def sink() -> Iterator[HttpSink]:
    with HttpSink() as sink:
        yield sink


@pytest.fixture(scope="module")
def forwarding(sink: HttpSink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    folder = tmp_path_factory.mktemp("delivery")
    with collecting(folder, "base", "backend-otlp", OTLP_ENDPOINT=sink.endpoint) as collector:
        yield collector


@pytest.mark.parametrize("mode", ["503", "429"])
def test_a_backend_that_refuses_for_now_gets_it_later(forwarding: Collector, sink: HttpSink, mode: Mode) -> None:
    sink.mode = mode
    before = sink.attempts
    span = otlp.span()
    forwarding.send("traces", otlp.traces(span))
    sink.wait(lambda s: s.attempts > before)
    sink.mode = "ok"
    sink.wait(lambda s: span.span_id in ids(s))


def test_what_a_backend_refuses_for_good_is_dropped_and_counted(forwarding: Collector, sink: HttpSink) -> None:
    sink.mode = "400"
    before = sink.attempts
    span = otlp.span()
    forwarding.send("traces", otlp.traces(span))
    eventually(lambda: forwarding.figure("otelcol_exporter_send_failed_spans") == 1, "it is counted")
    assert sink.attempts == before + 1
    sink.mode = "ok"
    forwarding.send("traces", otlp.traces(second := otlp.span()))
    sink.wait(lambda s: second.span_id in ids(s))
    assert span.span_id not in ids(sink)


def test_what_waits_for_one_gateway_is_not_sent_to_the_others_meanwhile(tmp_path: Path) -> None:
    patient = "protocol: {otlp: {retry_on_failure: {max_elapsed_time: 10m}}}, timeout: 10m"
    (tmp_path / "patient.yaml").write_text(f"exporters: {{load_balancing/traces: {{{patient}}}}}")
    with ExitStack() as stack:
        sink = stack.enter_context(HttpSink())
        folders = [tmp_path / name for name in ("here", "gone", "agent")]
        for folder in folders:
            folder.mkdir()
        files = ("base", "gateway", "backend-otlp")
        here, gone = (
            stack.enter_context(collecting(folder, *files, OTLP_ENDPOINT=sink.endpoint)) for folder in folders[:2]
        )
        gone.kill()
        variables = {"GATEWAY_ENDPOINTS": f"127.0.0.1:{here.grpc},127.0.0.1:{gone.grpc}", "GATEWAY_INSECURE": "true"}
        agent = stack.enter_context(
            collecting(folders[2], "base", "agent", str(tmp_path / "patient.yaml"), **variables)
        )
        spans = [otlp.span() for _ in range(100)]
        agent.send("traces", otlp.traces(*spans))
        eventually(lambda: agent.output.count("Will retry the request") >= 3, "it is tried again and again")
        gone.start()
        sink.wait(lambda s: ids(s) == {span.span_id for span in spans}, PATIENCE)
        assert len(sink.spans()) == len(spans), "each once"


@pytest.mark.parametrize("sender", ["backend-otlp", "agent"])
def test_large_records_leave_in_requests_that_the_next_collector_takes(tmp_path: Path, sender: str) -> None:
    (tmp_path / "sender").mkdir()
    (tmp_path / "gateway").mkdir()
    spans = [otlp.span("find orders", {"db.query.summary": "orders.create." * 330}) for _ in range(2400)]
    with (
        HttpSink() as sink,
        collecting(tmp_path / "gateway", "base", "gateway", "backend-otlp", OTLP_ENDPOINT=sink.endpoint) as gateway,
        collecting(
            tmp_path / "sender",
            "base",
            sender,
            OTLP_ENDPOINT=gateway.endpoint,
            GATEWAY_ENDPOINTS=f"127.0.0.1:{gateway.grpc}",
            GATEWAY_INSECURE="true",
            OTELCOL_FLUSH_TIMEOUT="5s",
        ) as collector,
    ):
        for first in range(0, len(spans), 300):
            collector.send("traces", otlp.traces(*spans[first : first + 300]))
        sink.wait(lambda s: ids(s) == {span.span_id for span in spans}, PATIENCE)
        assert max(received.message.ByteSize() for received in sink.requests) <= 4_000_000


def test_a_limit_of_the_retries_would_lose_what_waits(tmp_path: Path) -> None:
    """The control: with the exporters' default instead of ours, an outage that is longer loses data."""
    limit = "{initial_interval: 100ms, max_interval: 200ms, max_elapsed_time: 1s}"
    (tmp_path / "limit.yaml").write_text(f"exporters: {{otlp_http/otlp: {{retry_on_failure: {limit}}}}}")
    files = ("base", "backend-otlp", str(tmp_path / "limit.yaml"))
    with HttpSink("503") as sink, collecting(tmp_path, *files, OTLP_ENDPOINT=sink.endpoint) as collector:
        collector.send("traces", otlp.traces(otlp.span()))
        eventually(lambda: collector.figure("otelcol_exporter_send_failed_spans") == 1, "it gives up")


def test_a_stop_keeps_what_was_not_sent(tmp_path: Path) -> None:
    with (
        HttpSink("503") as sink,
        collecting(tmp_path, "base", "backend-otlp", OTLP_ENDPOINT=sink.endpoint) as collector,
    ):
        spans = [otlp.span() for _ in range(50)]
        collector.send("traces", otlp.traces(*spans))
        collector.stop()
        sink.mode = "ok"
        collector.start()
        sink.wait(lambda s: ids(s) == {span.span_id for span in spans})


def test_queues_can_be_in_memory_and_then_nothing_is_on_disk(tmp_path: Path) -> None:
    variables = {"OTELCOL_QUEUE_STORAGE": "null"}
    with (
        HttpSink("503") as sink,
        collecting(tmp_path, "base", "backend-otlp", OTLP_ENDPOINT=sink.endpoint, **variables) as collector,
    ):
        span = otlp.span()
        collector.send("traces", otlp.traces(span))
        sink.wait(lambda s: s.attempts > 0)
        assert not list(collector.storage.iterdir())
        sink.mode = "ok"
        sink.wait(lambda s: ids(s) == {span.span_id})


def test_one_dead_backend_stops_no_other_even_with_its_queue_full(tmp_path: Path) -> None:
    with HttpSink() as alive:
        environment = {
            "OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
            "GRAFANA_CLOUD_OTLP_ENDPOINT": alive.endpoint,
            "GRAFANA_CLOUD_AUTH": "MTI6YWJj",
            **SMALL,
        }
        with collecting(tmp_path, "base", "backend-otlp", "backend-grafana-cloud", **environment) as collector:
            fill(collector)
            spans = [otlp.span() for _ in range(10)]
            answer = collector.post("traces", otlp.traces(*spans))
            assert answer.status_code == 503, "the service is told that one of them has no room"
            alive.wait(lambda s: {span.span_id for span in spans} <= ids(s))


SERVICE = """
from fastapi import FastAPI
from otel_monitoring import MonitoringService

app = FastAPI(title="orders")
MonitoringService(None).instrument(app)

@app.get("/orders")
async def orders():
    return []
"""


def test_a_full_queue_is_told_and_costs_the_service_nothing(tmp_path: Path, soon: str) -> None:
    with (
        HttpSink() as sink,
        collecting(tmp_path, "base", "backend-otlp", soon, OTLP_ENDPOINT=sink.endpoint, **SMALL) as collector,
        serving(
            tmp_path,
            SERVICE,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
            OTEL_EXPORTER_OTLP_TIMEOUT="2",
            OTEL_BSP_SCHEDULE_DELAY="100",
            OTEL_METRIC_EXPORT_INTERVAL="200",
        ) as service,
    ):
        sink.mode = "503"
        answer = fill(collector)
        assert answer.status_code == 503, "clients try again after this one"
        assert collector.figure("otelcol_exporter_enqueue_failed_spans") > 0
        with long_before(120):  # each request that waited for its export would take two seconds
            for _ in range(60):
                assert service.get("/orders").status_code == 200
        eventually(lambda: service.diagnostics()["telemetry"]["traces"]["failures"] > 0, "diagnostics tell")
        sink.mode = "ok"
        eventually(lambda: collector.figure("otelcol_exporter_queue_size") < 200, "it drains")
        before = len(sink.spans())
        assert service.get("/orders").status_code == 200
        sink.wait(lambda s: len(s.spans()) > before, PATIENCE)
