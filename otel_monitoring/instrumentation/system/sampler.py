"""`SystemSampler`: samples CPU, memory, threads, descriptors, garbage collection and event loop lag."""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from otel_monitoring import semconv
from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.system.cgroup import Cgroup
from otel_monitoring.instrumentation.system.cpu import CpuMeter, CpuUse, own_process, read_or_none, read_process
from otel_monitoring.instrumentation.system.event_loop import LoopMonitor
from otel_monitoring.instrumentation.system.gc_pauses import GcPauses
from otel_monitoring.instrumentation.system.sample import MIB, SystemHistory, SystemSample

_USED = {semconv.SYSTEM_MEMORY_STATE: "used"}

_reading_cpu = fail_open("measuring CPU")
_reading_memory = fail_open("reading memory")
_reading_limit = fail_open("reading the container's memory")
_reading_threads = fail_open("counting threads")
_reading_descriptors = fail_open("counting file descriptors")
_reading_age = fail_open("reading the process's age")
_reading_pauses = fail_open("recording garbage collections")
_reading_lag = fail_open("reading the event loop's lag")


class SystemSampler:
    """Takes samples on demand, keeps the latest, and exports them by observable instruments that only read them.

    The first sample is taken at construction; a forked child begins anew with its own first sample. `start` and `stop`
    attach and detach the listener for garbage collections.

    Args:
        meter: The meter of the instruments.
        window: Number of samples that are kept for averages; 360 samples at 10 s are an hour.
        root: The directory with `proc` and `sys`.
        clock: A monotonic clock, in seconds; every `now` is a time of this clock.
    """

    def __init__(
        self,
        meter: Meter,
        *,
        window: int = 360,
        root: Path = Path("/"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._clock = clock
        self._event_loop: LoopMonitor | None = None
        self._pauses = GcPauses()
        self._window = window
        self._pause_duration = semconv.GC_PAUSES.create(meter)
        self._begin(clock())
        self._register(meter)

    def start(self, event_loop: LoopMonitor | None = None) -> None:
        """Listen to garbage collections, and sample the lag of `event_loop`, too; idempotent.

        Args:
            event_loop: The monitor of the application's event loop in this process; None: its lag is not sampled.
        """
        self._renew_after_fork()
        self._event_loop = event_loop
        self._pauses.attach()

    def stop(self) -> None:
        """Stop listening; idempotent. The samples are kept."""
        self._pauses.detach()
        self._event_loop = None

    def sample(self, now: float) -> SystemSample:
        """Take a sample, which takes about half a millisecond; call it in one thread, not the application's loop's.

        A figure whose source fails is None, with one log line a minute.
        """
        self._renew_after_fork()
        sample = self._take(now)
        self._history.add(sample)
        return sample

    def recent(self, count: int) -> list[SystemSample]:
        """The latest samples, at most `count`, oldest first."""
        return self._history.recent(count)

    def summary(self) -> dict[str, Any]:
        """The documented block of the latest sample: see `SystemHistory.summary`."""
        return self._history.summary()

    def _renew_after_fork(self) -> None:
        if self._pid != os.getpid():
            self._begin(self._clock())

    def _begin(self, now: float) -> None:
        """Begin anew in this process, with its own counters and without samples of the parent process."""
        self._pid = os.getpid()
        self._process = own_process()
        self._cgroup = Cgroup(self._root)
        age = read_process(_reading_age, self._process, lambda process: max(0.0, time.time() - process.create_time()))
        self._born = None if age is None else self._clock() - age
        self._cpu = CpuMeter(now, self._cgroup)
        self._pauses.take()
        self._paused_before = self._pauses.total
        self._history = SystemHistory(self._take(now), self._window)

    def _take(self, now: float) -> SystemSample:
        rss = read_process(_reading_memory, self._process, lambda process: process.memory_info().rss)
        threads = read_process(_reading_threads, self._process, lambda process: process.num_threads())
        cpu = read_or_none(_reading_cpu, lambda: self._cpu.measure(now, self._age()))
        used, limit, container = read_or_none(_reading_limit, self._memory) or (None, None, False)
        lag = self._event_loop
        paused, longest = self._garbage()
        return SystemSample(
            time=now,
            cpu=cpu or CpuUse(),
            memory_mb=_mib(rss),
            memory_used_mb=_mib(used),
            memory_limit_mb=_mib(limit),
            thread_count=threads,
            open_file_descriptors=self._descriptors(),
            gc_pause_seconds=paused,
            gc_longest_pause_seconds=longest,
            event_loop_lag=read_or_none(_reading_lag, lambda: lag.max_lag(now)) if lag is not None else None,
            memory_container=container,
        )

    def _memory(self) -> tuple[int | None, int, bool]:
        """Bytes in use, the limit, and whether they are the container's: its limit is lower than the host's."""
        host = psutil.virtual_memory()
        container = self._cgroup.memory()
        if container is not None and container.limit < host.total:
            return container.used, container.limit, True
        return host.total - host.available, host.total, False

    def _descriptors(self) -> int | None:
        count = getattr(self._process, "num_fds", None)  # absent on Windows
        return read_or_none(_reading_descriptors, count) if count is not None else None

    def _age(self) -> float | None:
        """Seconds since the process started; the wall clock is read only once, because it may be changed."""
        return None if self._born is None else self._clock() - self._born

    def _garbage(self) -> tuple[float, float]:
        pauses, longest = self._pauses.take()
        total = self._pauses.total
        paused, self._paused_before = total - self._paused_before, total
        with _reading_pauses:
            for generation, seconds in pauses:
                self._pause_duration.record(seconds, {semconv.GC_GENERATION: generation})
        return paused, longest

    def _register(self, meter: Meter) -> None:
        """Make the instruments, as in the semantic conventions: gauges for shares, up-down counters for amounts."""
        for name, unit, description, read, attributes in _GAUGES:
            meter.create_observable_gauge(name, [self._observer(read, attributes)], unit, description)
        for name, unit, description, read, attributes in _AMOUNTS:
            meter.create_observable_up_down_counter(name, [self._observer(read, attributes)], unit, description)
        for name, observe, description in (
            (semconv.CPU_PRESSURE, self._observe_cpu, "Share of the CPU in use that this service has a part in."),
            (semconv.MEMORY_PRESSURE, self._observe_memory, "Share of the memory in use that it has a part in."),
        ):
            meter.create_observable_gauge(name, [observe], "1", description)
        meter.create_observable_gauge(
            semconv.PROCESS_UPTIME, [self._observe_age], "s", "How long this process has run."
        )

    def _observe_cpu(self, _: CallbackOptions) -> Iterable[Observation]:
        sample = self._history.latest
        return _pressure(sample.cpu_pressure, sample.cpu_scope)

    def _observe_memory(self, _: CallbackOptions) -> Iterable[Observation]:
        sample = self._history.latest
        return _pressure(sample.memory_pressure, sample.memory_scope)

    def _observe_age(self, _: CallbackOptions) -> Iterable[Observation]:
        age = self._age()
        return () if age is None else (Observation(round(age, 3)),)

    def _observer(self, read: "_Reader", attributes: dict[str, str] | None) -> "_Observer":
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            value = read(self._history.latest)
            return () if value is None else (Observation(value, attributes),)

        return observe


def _mib(amount: int | None) -> float | None:
    return None if amount is None else amount / MIB


def _bytes(amount: float | None) -> int | None:
    return None if amount is None else round(amount * MIB)


def _pressure(percent: float | None, scope: str) -> tuple[Observation, ...]:
    return () if percent is None else (Observation(percent / 100.0, {semconv.RESOURCE_SCOPE: scope}),)


def _share(percent: float | None) -> float | None:
    return None if percent is None else percent / 100.0


_Reader = Callable[[SystemSample], float | None]
_Observer = Callable[[CallbackOptions], Iterable[Observation]]
_Row = tuple[str, str, str, _Reader, dict[str, str] | None]
_GAUGES: tuple[_Row, ...] = (
    (
        semconv.PROCESS_CPU_UTILIZATION,
        "1",
        "Share of the available CPU that this process used.",
        lambda sample: _share(sample.cpu.process_percent),
        None,
    ),
    (
        semconv.SYSTEM_CPU_UTILIZATION,
        "1",
        "Share of the CPU available to this container or host that was used.",
        lambda sample: _share(sample.cpu_percent),
        None,
    ),
    (
        semconv.SYSTEM_MEMORY_UTILIZATION,
        "1",
        "Share of the memory available to this container or host that is used.",
        lambda sample: _share(sample.memory_percent),
        _USED,
    ),
    (
        semconv.EVENT_LOOP_LAG,
        "s",
        "Largest delay of a callback in the application's event loop in the last minute.",
        lambda sample: sample.event_loop_lag,
        None,
    ),
)
_AMOUNTS: tuple[_Row, ...] = (
    (
        semconv.PROCESS_MEMORY_USAGE,
        "By",
        "Physical memory of this process.",
        lambda sample: _bytes(sample.memory_mb),
        None,
    ),
    (
        semconv.PROCESS_THREAD_COUNT,
        "{thread}",
        "Threads of this process.",
        lambda sample: sample.thread_count,
        None,
    ),
    (
        semconv.PROCESS_OPEN_FILE_DESCRIPTOR_COUNT,
        "{file_descriptor}",
        "Open file descriptors of this process.",
        lambda sample: sample.open_file_descriptors,
        None,
    ),
    (
        semconv.SYSTEM_MEMORY_USAGE,
        "By",
        "Memory in use in this container or host.",
        lambda sample: _bytes(sample.memory_used_mb),
        _USED,
    ),
    (
        semconv.SYSTEM_MEMORY_LIMIT,
        "By",
        "Memory available to this container or host.",
        lambda sample: _bytes(sample.memory_limit_mb),
        None,
    ),
)
