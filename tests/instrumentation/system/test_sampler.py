"""Samples are true, the documented block always has numbers, gauges only read, and nothing that fails gets out."""

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import psutil
import pytest
from opentelemetry.metrics import MeterProvider as AnyMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, Metric, NumberDataPoint
from opentelemetry.semconv._incubating.metrics import process_metrics, system_metrics

from otel_monitoring import semconv as names
from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.system.cpu import CpuUse
from otel_monitoring.instrumentation.system.event_loop import LoopMonitor
from otel_monitoring.instrumentation.system.sample import SystemHistory, SystemSample
from otel_monitoring.instrumentation.system.sampler import SystemSampler
from otel_monitoring.testing import ManualClock
from tests.instrumentation.system.test_cgroup import unified
from tests.instrumentation.system.test_cpu import burn

MIB = 1024 * 1024
CONTAINER = {
    "cpu.max": "50000 100000\n",
    "cpu.stat": "usage_usec 0\n",
    "memory.max": f"{128 * MIB}\n",
    "memory.current": f"{40 * MIB}\n",
    "memory.stat": f"inactive_file {8 * MIB}\n",
}
DOCUMENTED = (
    "cpu_percent",
    "memory_mb",
    "avg_cpu_percent",
    "avg_memory_mb",
    "max_cpu_percent",
    "max_memory_mb",
)


class Rig:
    """A sampler in a container made of files, with a clock turned by hand, and what is exported of it."""

    def __init__(self, root: Path, files: dict[str, str] | None = None) -> None:
        unified(root, CONTAINER if files is None else files)
        self.root = root
        self.reader = InMemoryMetricReader()
        self.provider: AnyMeterProvider = MeterProvider(metric_readers=[self.reader])
        self.sampler = SystemSampler(self.provider.get_meter("test"), window=3, root=root, clock=ManualClock(100.0))

    def write(self, name: str, text: str) -> None:
        (self.root / "sys/fs/cgroup" / name).write_text(text)

    def exported(self) -> dict[str, Metric]:
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {m.name: m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics}

    def values(self) -> dict[str, float]:
        return {
            name: point.value
            for name, metric in self.exported().items()
            for point in metric.data.data_points
            if isinstance(point, NumberDataPoint)
        }


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.sampler.stop()


def test_the_documented_block_has_numbers_from_the_start(rig: Rig) -> None:
    summary = rig.sampler.summary()
    assert all(isinstance(summary[key], float) for key in DOCUMENTED)
    assert summary["cpu_percent"] == summary["process_cpu_percent"] > 0
    assert summary["cpu_interval_seconds"] is None


def test_the_containers_limits_come_before_the_hosts(rig: Rig) -> None:
    rig.write("cpu.stat", "usage_usec 1000000\n")
    sample = rig.sampler.sample(110.0)
    assert sample.cpu_percent == pytest.approx(20.0)
    assert (sample.memory_used_mb, sample.memory_limit_mb, sample.memory_percent) == (32.0, 128.0, 25.0)
    summary = rig.sampler.summary()
    assert (summary["cpu_percent"], summary["memory_percent"], summary["cpu_limit"]) == (20.0, 25.0, 0.5)
    assert summary["cpu_interval_seconds"] == 10.0


@pytest.mark.parametrize("limit", ["max\n", f"{1 << 50}\n"])
def test_without_a_limit_below_it_memory_is_the_hosts(tmp_path: Path, limit: str) -> None:
    sample = Rig(tmp_path, {**CONTAINER, "memory.max": limit}).sampler.recent(1)[0]
    assert sample.memory_limit_mb == pytest.approx(psutil.virtual_memory().total / MIB)
    assert sample.memory_percent is not None
    assert 0 < sample.memory_percent <= 100


def test_a_process_that_psutil_does_not_see_has_no_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise psutil.NoSuchProcess(os.getpid())

    monkeypatch.setattr(psutil.Process, "__init__", refuse)
    sampler = SystemSampler(MeterProvider().get_meter("test"), root=tmp_path, clock=ManualClock(100.0))
    sample = sampler.sample(110.0)
    assert (sample.memory_mb, sample.thread_count, sample.open_file_descriptors) == (None, None, None)
    assert sample.cpu.process_percent is None
    assert sampler.summary()["memory_mb"] is None
    assert [record.getMessage() for record in caplog.records] == ["looking up this process failed: NoSuchProcess"]


@pytest.mark.slow
def test_the_process_itself() -> None:
    """In a process of its own: threads, memory and descriptors of earlier tests are let go at any time."""
    script = textwrap.dedent(
        """
        import os, threading
        from opentelemetry.metrics import NoOpMeterProvider
        from otel_monitoring.instrumentation.system.sampler import SystemSampler

        sampler = SystemSampler(NoOpMeterProvider().get_meter("test"), clock=lambda: 100.0)
        stop = threading.Event()
        threads = [threading.Thread(target=stop.wait) for _ in range(20)]
        before = sampler.sample(101.0)
        files = [open(os.devnull) for _ in range(20)]
        for thread in threads:
            thread.start()
        held = bytearray(b"x" * (40 << 20))
        after = sampler.sample(110.0)
        stop.set()
        print(after.thread_count - before.thread_count, after.memory_mb - before.memory_mb)
        if before.open_file_descriptors is not None:
            print(after.open_file_descriptors - before.open_file_descriptors)
        """
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    threads, memory, *descriptors = map(float, result.stdout.split())
    assert threads == 20
    assert 30 < memory < 60
    assert descriptors == ([] if sys.platform == "win32" else [20])


def test_burned_cpu_is_seen(rig: Rig) -> None:
    burned = burn(0.2)
    sample = rig.sampler.sample(101.0)
    assert sample.cpu.process_cores == pytest.approx(burned, abs=0.1)


def test_a_source_that_fails_is_none_and_the_rest_goes_on(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil.Process, "num_threads", refuse)
    monkeypatch.setattr(psutil.Process, "memory_info", refuse)
    monkeypatch.setattr(psutil.Process, "cpu_times", refuse)
    rig.write("cpu.stat", "usage_usec 1000000\n")
    sample = rig.sampler.sample(110.0)
    assert (sample.thread_count, sample.memory_mb, sample.cpu.process_percent) == (None, None, None)
    assert sample.cpu_percent == pytest.approx(20.0)
    assert set(fail_open.failures) == {"counting threads", "reading memory", "reading the process's CPU"}
    assert rig.sampler.summary()["memory_mb"] is None
    assert names.PROCESS_THREAD_COUNT not in rig.values()


def test_gauges_read_the_latest_sample_and_measure_nothing(rig: Rig) -> None:
    rig.write("cpu.stat", "usage_usec 1000000\n")
    sample = rig.sampler.sample(110.0)
    rig.write("cpu.stat", "usage_usec 9000000\n")
    rig.write("memory.current", f"{100 * MIB}\n")
    values = rig.values()
    assert values[names.SYSTEM_CPU_UTILIZATION] == pytest.approx(0.2)
    assert values[names.SYSTEM_MEMORY_USAGE] == 32 * MIB
    assert values[names.SYSTEM_MEMORY_LIMIT] == 128 * MIB
    assert values[names.SYSTEM_MEMORY_UTILIZATION] == pytest.approx(0.25)
    assert values[names.PROCESS_THREAD_COUNT] == sample.thread_count
    assert sample.memory_mb is not None
    assert values[names.PROCESS_MEMORY_USAGE] == pytest.approx(sample.memory_mb * MIB)
    assert sample.cpu.process_percent is not None
    assert values[names.PROCESS_CPU_UTILIZATION] == pytest.approx(sample.cpu.process_percent / 100)


def test_names_units_and_kinds_are_those_of_the_conventions(rig: Rig) -> None:
    reader = InMemoryMetricReader()
    meter = MeterProvider(metric_readers=[reader]).get_meter("conventions")
    for create in (
        process_metrics.create_process_memory_usage,
        process_metrics.create_process_thread_count,
        process_metrics.create_process_unix_file_descriptor_count,
        system_metrics.create_system_memory_usage,
        system_metrics.create_system_memory_limit,
    ):
        create(meter).add(1)
    for observe in (
        process_metrics.create_process_cpu_utilization,
        system_metrics.create_system_cpu_utilization,
        system_metrics.create_system_memory_utilization,
    ):
        observe(meter, [lambda _: ()])
    rig.sampler.sample(110.0)
    data = reader.get_metrics_data()
    assert data is not None
    expected = {m.name: m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics}
    ours = rig.exported()
    assert len(expected) >= 5
    for name, metric in expected.items():
        if name in ours:
            assert (ours[name].unit, type(ours[name].data)) == (metric.unit, type(metric.data)), name
    assert expected.keys() <= ours.keys() | (
        {names.PROCESS_OPEN_FILE_DESCRIPTOR_COUNT} if sys.platform == "win32" else set()
    )


def test_gc_pauses_are_recorded_by_the_sample_not_by_the_collector(rig: Rig) -> None:
    rig.sampler.start()
    gc.collect(2)
    assert names.GC_PAUSE_DURATION not in rig.exported()
    sample = rig.sampler.sample(110.0)
    assert sample.gc_pause_seconds >= sample.gc_longest_pause_seconds > 0
    metric = rig.exported()[names.GC_PAUSE_DURATION]
    points = {
        (point.attributes or {})["cpython.gc.generation"]: point
        for point in metric.data.data_points
        if isinstance(point, HistogramDataPoint)
    }
    assert points[2].count >= 1
    assert points[2].sum > 0
    assert metric.unit == "s"


def test_stopped_it_leaves_the_collector_alone(rig: Rig) -> None:
    before = list(gc.callbacks)
    rig.sampler.start()
    rig.sampler.start()
    rig.sampler.stop()
    rig.sampler.stop()
    assert gc.callbacks == before
    rig.sampler.start()
    assert len(gc.callbacks) == len(before) + 1


@pytest.mark.anyio
async def test_the_loops_lag_is_in_sample_and_gauge(rig: Rig) -> None:
    clock = ManualClock(100.0)
    monitor = LoopMonitor(asyncio.get_running_loop(), clock=clock)
    rig.sampler.start(monitor)
    assert rig.sampler.sample(100.0).event_loop_lag is None
    assert names.EVENT_LOOP_LAG not in rig.values()
    monitor.probe(100.0)
    clock.now = 100.75
    await asyncio.sleep(0)
    assert rig.sampler.sample(101.0).event_loop_lag == 0.75
    assert rig.values()[names.EVENT_LOOP_LAG] == 0.75


def test_recent_samples_oldest_first(rig: Rig) -> None:
    for now in (110.0, 120.0, 130.0):
        rig.sampler.sample(now)
    assert [sample.time for sample in rig.sampler.recent(2)] == [120.0, 130.0]
    assert [sample.time for sample in rig.sampler.recent(10)] == [110.0, 120.0, 130.0]
    assert rig.sampler.recent(0) == []


def sample(time: float, cpu: float | None, memory: float | None) -> SystemSample:
    return SystemSample(time, CpuUse(cpu, 1.0, 0.1, 1.0, 10.0), memory, 1.0, 2.0, 1, 1, 0.0, 0.0, None)


def test_averages_are_of_the_samples_kept_maxima_of_all() -> None:
    history = SystemHistory(sample(0, 90.0, 500.0), window=2)
    for each in (sample(1, 30.0, 300.0), sample(2, 10.0, 100.0), sample(3, 20.0, 200.0)):
        history.add(each)
    summary = history.summary()
    assert [summary[key] for key in DOCUMENTED] == [20.0, 200.0, 15.0, 150.0, 90.0, 500.0]


def test_unknown_samples_change_no_average() -> None:
    history = SystemHistory(sample(0, 40.0, 100.0), window=5)
    history.add(sample(1, None, None))
    summary = history.summary()
    assert [summary[key] for key in DOCUMENTED] == [None, None, 40.0, 100.0, 40.0, 100.0]


def test_a_summary_belongs_to_its_caller(rig: Rig) -> None:
    rig.sampler.summary().clear()
    assert rig.sampler.summary()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
def test_a_forked_worker_measures_itself() -> None:
    script = textwrap.dedent(
        """
        import gc, os, time
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from otel_monitoring.instrumentation.system.sampler import SystemSampler

        reader = InMemoryMetricReader()
        ballast = bytearray(b"x" * (60 * 1024 * 1024))
        sampler = SystemSampler(MeterProvider(metric_readers=[reader]).get_meter("test"))
        sampler.start()
        gc.collect()
        gc.disable()
        before = sampler.recent(1)[0]
        child = os.fork()
        if child == 0:
            del ballast
            sampler.start()
            begun = sampler.recent(1)[0]
            print(begun is not before, len(gc.callbacks), sampler._process.pid == os.getpid(), flush=True)
            sample = sampler.sample(time.monotonic())
            print(sample.memory_mb < before.memory_mb - 30, sample.gc_pause_seconds == 0.0, flush=True)
            print("gc.pause" not in str(reader.get_metrics_data()), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        """
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.split() == ["True", "1", "True", "True", "True", "True"], result.stderr
