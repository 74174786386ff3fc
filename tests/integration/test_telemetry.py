"""Telemetry against real OTLP endpoints that answer, refuse, hang, fail and come back."""

import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_monitoring.config import Settings
from otel_monitoring.metrics.reader import SnapshotReader
from otel_monitoring.metrics.snapshot import Series
from otel_monitoring.telemetry.providers import Telemetry
from tests.otlp_sink import TIMEOUT, GrpcSink, HttpSink, Mode, Relay, Sink
from tests.ports import free_port
from tests.waiting import eventually, long_before

pytestmark = pytest.mark.integration

Start = Callable[..., Telemetry]
PROTOCOLS = ["http/protobuf", "grpc"]
SIGNALS = ("traces", "metrics", "logs")


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[Telemetry] = []

    def start(endpoint: str, **settings: Any) -> Telemetry:
        telemetry = Telemetry(
            Settings.load(otlp_endpoint=endpoint, **settings), service_name="orders", service_version="1.2.3"
        )
        telemetry.start(SnapshotReader(0.0))
        started.append(telemetry)
        return telemetry

    yield start
    for telemetry in started:
        telemetry.stop(0.1)
    eventually(lambda: not any(t.name.startswith(("Otel", "otel-monitoring")) for t in threading.enumerate()))


def sink_for(protocol: str, mode: Mode = "ok") -> Sink:
    return GrpcSink(mode) if protocol == "grpc" else HttpSink(mode)


def measure(telemetry: Telemetry) -> None:
    """One span with a log record in it, one counter."""
    with telemetry.tracer_provider.get_tracer("test").start_as_current_span("work"):
        logging.getLogger("app").warning("something happened")
    telemetry.meter_provider.get_meter("test").create_counter("jobs").add(3)


def states(telemetry: Telemetry) -> dict[str, dict[str, Any]]:
    return telemetry.state(time.monotonic())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_all_signals_arrive_with_the_resource_and_the_span_they_belong_to(start: Start, protocol: str) -> None:
    with sink_for(protocol) as sink:
        telemetry = start(sink.endpoint, otlp_protocol=protocol, environment="staging")
        measure(telemetry)
        telemetry.stop(TIMEOUT)

    (span,) = sink.spans()
    (record,) = (r for r in sink.records() if r.body.string_value == "something happened")
    assert span.name == "work"
    assert len(span.trace_id) == 16
    assert (record.trace_id, record.span_id) == (span.trace_id, span.span_id)
    assert [m.sum.data_points[0].as_int for m in sink.metrics() if m.name == "jobs"] == [3]
    resources = list(sink.resources())
    assert len(resources) == 3
    for resource in resources:
        assert resource["service.name"] == "orders"
        assert resource["service.version"] == "1.2.3"
        assert resource["deployment.environment.name"] == "staging"
        assert resource["service.instance.id"] == telemetry.resource.attributes["service.instance.id"]
        assert resource["telemetry.sdk.language"] == "python"
    for signal_name, state in states(telemetry).items():
        assert (state["failures"], state["dropped"], state["last_error"]) == (0, 0, None), signal_name
        assert state["exported"] >= 1
        assert state["last_success"].endswith("+00:00")
        assert state["protocol"] == protocol


def test_http_requests_are_gzipped_and_go_to_the_signals_paths(start: Start) -> None:
    with HttpSink() as sink:
        telemetry = start(sink.endpoint, otlp_headers="x-tenant=early%20bird,authorization=Bearer abc")
        measure(telemetry)
        telemetry.stop(TIMEOUT)

    assert {r.path for r in sink.requests} == {"/v1/traces", "/v1/metrics", "/v1/logs"}
    for request in sink.requests:
        assert request.headers["content-encoding"] == "gzip"
        assert request.headers["x-tenant"] == "early bird"
        assert request.headers["authorization"] == "Bearer abc"


@pytest.mark.parametrize(("compression", "at_most"), [("gzip", 30_000), ("none", 10**9)])
def test_grpc_requests_are_gzipped_unless_told_otherwise(start: Start, compression: str, at_most: int) -> None:
    with GrpcSink() as sink, Relay(sink.port) as relay:
        telemetry = start(
            f"http://127.0.0.1:{relay.port}",
            otlp_protocol="grpc",
            otlp_compression=compression,
            otlp_headers="x-tenant=early",
        )
        logging.getLogger("app").warning("x" * 100_000)
        telemetry.stop(TIMEOUT)

    assert len(sink.of("logs")) == 1
    assert relay.sent < at_most
    assert (relay.sent > 100_000) == (compression == "none")
    assert sink.requests[0].headers["x-tenant"] == "early"


def test_each_signal_may_go_its_own_way(start: Start) -> None:
    with HttpSink() as metrics, GrpcSink() as traces:
        telemetry = start(
            metrics.endpoint,
            otlp_traces_endpoint=traces.endpoint,
            otlp_traces_protocol="grpc",
            otlp_metrics_compression="none",
            logs_exporter="none",
        )
        measure(telemetry)
        telemetry.stop(TIMEOUT)

    assert [r.signal for r in traces.requests] == ["traces"]
    assert [r.signal for r in metrics.requests] == ["metrics"]
    assert "content-encoding" not in metrics.requests[0].headers
    assert states(telemetry)["logs"]["provider"] == "none"
    assert not telemetry.logging


@pytest.mark.usefixtures("start")
def test_the_aggregator_reads_the_numbers_that_are_exported() -> None:
    with HttpSink() as sink:
        settings = Settings.load(otlp_endpoint=sink.endpoint)
        telemetry = Telemetry(settings, service_name=None, service_version=None)
        reader = SnapshotReader(0.0)
        telemetry.start(reader)
        meter = telemetry.meter_provider.get_meter("test")
        duration = meter.create_histogram("d", unit="s")
        for n in range(1, 101):
            duration.record(n / 100, {"route": "/a" if n % 4 else "/b"})
        snapshot = reader.take(1.0)
        telemetry.stop(TIMEOUT)

    (metric,) = (m for m in sink.metrics() if m.name == "d")
    assert len(metric.histogram.data_points) == 2
    for point in metric.histogram.data_points:
        ours = snapshot.histograms[Series("d", (("route", point.attributes[0].value.string_value),))]
        assert (ours.count, ours.min, ours.max) == (point.count, point.min, point.max)
        assert ours.sum == pytest.approx(point.sum)


@pytest.mark.usefixtures("start")
def test_metrics_leave_at_the_interval_and_a_dead_endpoint_never_delays_the_aggregator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "100")
    with HttpSink("hang") as sink:
        settings = Settings.load(otlp_endpoint=sink.endpoint, metric_export_interval=20)
        telemetry = Telemetry(
            settings,
            service_name=None,
            service_version=None,
        )
        reader = SnapshotReader(0.0)
        telemetry.start(reader)
        counter = telemetry.meter_provider.get_meter("test").create_counter("jobs")
        counter.add(1)
        sink.wait(lambda s: s.attempts >= 1)
        for n in range(50):
            counter.add(1)
            reader.take(float(n + 1))
        assert states(telemetry)["metrics"]["failures"] == 0, "the first request hangs still"
        telemetry.stop(0.1)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("mode", ["refuse", "hang", "503", "429"])
def test_stopping_keeps_its_deadline_whatever_the_endpoint_does(
    start: Start, protocol: str, mode: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "100")
    with sink_for(protocol, "ok" if mode == "refuse" else mode) as sink:
        endpoint = f"http://127.0.0.1:{free_port()}" if mode == "refuse" else sink.endpoint
        telemetry = start(endpoint, otlp_protocol=protocol)
        measure(telemetry)
        with long_before(100):
            telemetry.stop(0.5)
            telemetry.stop(0.5)  # again: nothing to do

    assert sum("most once a minute" in record.getMessage() for record in caplog.records) <= 1
    loud = [r for r in caplog.records if r.name.startswith("opentelemetry") and r.levelno >= logging.WARNING]
    assert len(loud) <= 1
    assert all(record.exc_info is None for record in loud)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_remains_after_stopping_and_starting_again_works(start: Start, protocol: str) -> None:
    with sink_for(protocol) as sink:
        handlers = list(logging.getLogger().handlers)
        before = set(threading.enumerate())
        telemetry = start(sink.endpoint, otlp_protocol=protocol)
        measure(telemetry)
        telemetry.stop(TIMEOUT)
        left = {t.name for t in set(threading.enumerate()) - before if not t.name.startswith(("otlp-", "Thread-"))}
        assert left == set()
        assert logging.getLogger().handlers == handlers
        measure(telemetry)  # not started: goes nowhere, harms nobody

        telemetry.start(SnapshotReader(1.0))
        telemetry.start(SnapshotReader(1.0))  # again: nothing to do
        measure(telemetry)
        telemetry.stop(TIMEOUT)

    assert [s.name for s in sink.spans()] == ["work", "work"]
    assert [r.body.string_value for r in sink.records()].count("something happened") == 2
    assert all(not r.filters for r in (logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter"),))


def test_what_the_full_queue_drops_is_counted_and_nothing_waits(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "100")
    with HttpSink("hang") as sink:
        telemetry = start(sink.endpoint, metrics_exporter="none", logs_exporter="none")
        tracer = telemetry.tracer_provider.get_tracer("test")
        for _ in range(10):
            tracer.start_span("in flight").end()
        sink.wait(lambda s: s.attempts == 1)
        for _ in range(100):
            tracer.start_span("too many").end()
        traces = states(telemetry)["traces"]
        telemetry.stop(0.1)

    assert (traces["queue"], traces["dropped"], traces["exported"]) == (10, 90, 0)
    assert traces["failures"] == 0, "what was in flight is so still"
    assert len([r for r in caplog.records if "Queue full" in r.getMessage()]) == 1
    # The stop has returned by its deadline; the thread that closes the queue counts what is left in it just then.
    eventually(lambda: states(telemetry)["traces"]["dropped"] >= 100)


def test_an_endpoint_that_comes_back_is_seen_to_come_back(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1.5")  # one retry
    port = free_port()
    telemetry = start(f"http://user:secret@127.0.0.1:{port}", metrics_exporter="none", logs_exporter="none")
    tracer = telemetry.tracer_provider.get_tracer("test")

    def traces() -> dict[str, Any]:
        tracer.start_span("work").end()
        return states(telemetry)["traces"]

    eventually(lambda: bool(traces()["failures"] >= 2))
    failing = traces()
    assert failing["last_success"] is None
    assert "refused" in failing["last_error"]
    assert failing["dropped"] >= failing["failures"]
    assert failing["endpoint"] == f"http://127.0.0.1:{port}/v1/traces"
    assert len([r for r in caplog.records if r.name.startswith("opentelemetry.")]) == 1
    assert "secret" not in json.dumps(failing) + caplog.text

    with HttpSink(port=port):
        eventually(lambda: traces()["last_success"] is not None)
        telemetry.stop(TIMEOUT)
    assert states(telemetry)["traces"]["exported"] >= 1


SCRIPT = """
import logging, os, sys, threading
from otel_monitoring.config import Settings
from otel_monitoring.metrics.reader import SnapshotReader
from otel_monitoring.telemetry.providers import Telemetry

def measure(telemetry, name):
    with telemetry.tracer_provider.get_tracer("test").start_as_current_span(name):
        logging.getLogger("app").warning(name)
    telemetry.meter_provider.get_meter("test").create_counter("jobs").add(1)

telemetry = Telemetry(Settings.load(), service_name="orders", service_version="1")
"""


def python(body: str, **environment: str) -> "subprocess.Popen[str]":
    """Run `SCRIPT` and `body` in a process of its own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT + textwrap.dedent(body)],
        env={**inherited, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: "subprocess.Popen[str]", timeout: float = 60) -> str:
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 0, err
    return out


@pytest.mark.parametrize("stops", [True, False])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_hanging_endpoint_does_not_keep_the_process(protocol: str, stops: bool) -> None:
    body = f"""
    telemetry.start(SnapshotReader(0.0))
    measure(telemetry, "work")
    if {stops}:
        telemetry.stop(0.5)
    else:  # ends without a word, in the middle of an export
        threading.Thread(target=telemetry.tracer_provider.force_flush, daemon=True).start()
    print("done", flush=True)
    """
    with sink_for(protocol, "hang") as sink:
        process = python(
            body,
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_EXPORTER_OTLP_TIMEOUT="100",
        )
        with long_before(100):
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "done\n"
            finally:
                finish(process)


@pytest.mark.parametrize("given", ["", "pod-7"])
def test_each_forked_worker_has_its_own_identity(given: str) -> None:
    body = """
    if os.fork() == 0:
        telemetry.start(SnapshotReader(0.0))
        measure(telemetry, "child")
        telemetry.stop(10)
        print("child", os.getpid(), telemetry.resource.attributes["service.instance.id"], flush=True)
        os._exit(0)
    os.wait()
    telemetry.start(SnapshotReader(0.0))
    measure(telemetry, "parent")
    if os.fork() == 0:  # forked while started: the parent's numbers are not sent again
        telemetry.stop(10)
        os._exit(0)
    os.wait()
    telemetry.stop(10)
    print("parent", os.getpid(), telemetry.resource.attributes["service.instance.id"], flush=True)
    """
    attributes = f"service.instance.id={given}" if given else ""
    with HttpSink() as sink:
        out = finish(python(body, OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint, OTEL_RESOURCE_ATTRIBUTES=attributes))
        names = {}
        for request in sink.requests:
            if request.signal == "traces":
                (group,) = request.message.resource_spans
                identity = {a.key: a.value.string_value for a in group.resource.attributes}["service.instance.id"]
                names[group.scope_spans[0].spans[0].name] = identity

    assert sorted(r.signal for r in sink.requests) == sorted(SIGNALS * 2)
    assert all(resource["service.name"] == "orders" for resource in sink.resources())
    assert len({resource["service.instance.id"] for resource in sink.resources()}) == 2
    printed = {who: (pid, identity) for who, pid, identity in (line.split() for line in out.splitlines())}
    assert names == {who: identity for who, (_, identity) in printed.items()}
    assert names["child"] != names["parent"]
    if given:
        assert all(identity == f"{given}:{pid}" for pid, identity in printed.values())


def test_a_child_forked_while_started_does_not_send_its_parents_numbers_again() -> None:
    body = """
    telemetry.start(SnapshotReader(0.0))
    measure(telemetry, "parent")
    if os.fork() == 0:
        measure(telemetry, "child")
        telemetry.tracer_provider.force_flush()
        telemetry.meter_provider.force_flush()
        os._exit(0)
    os.wait()
    telemetry.stop(10)
    """
    with HttpSink() as sink:
        finish(python(body, OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint))
    assert [span.name for span in sink.spans()] == ["parent"]
    assert sorted(r.signal for r in sink.requests) == sorted(SIGNALS)
