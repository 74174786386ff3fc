"""`SystemSample` and `SystemHistory`: what was seen of process and system, and the documented figures made of it."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from otel_monitoring.instrumentation.system.cpu import CpuUse

MIB: Final = 1024.0 * 1024.0

CONTAINER: Final = "container"
HOST: Final = "host"

_BUSY_CORES: Final = 0.25
_LARGE_SHARE: Final = 0.05
"""A process that uses less than a quarter of a core, or less than a twentieth of the memory, has no part in a host's
pressure: then it is its neighbours'."""


@dataclass(frozen=True, slots=True)
class SystemSample:
    """One look at process and system. None: not to be had here, or not yet.

    Megabytes are 1024 * 1024 bytes, as containers' limits and `docker stats` count.

    Attributes:
        time: When, in seconds of the sampler's clock.
        cpu: Use of the CPU since the sample before.
        memory_mb: Physical memory of this process (RSS).
        memory_used_mb: Memory in use by everything under the limit: the container's working set, or the host's memory
            that is not available.
        memory_limit_mb: The container's limit, or the host's memory where there is none below it.
        thread_count: Threads of this process.
        open_file_descriptors: Open descriptors of this process; handles on Windows are not counted.
        gc_pause_seconds: Time that garbage collections took since the sample before, together.
        gc_longest_pause_seconds: The longest of them.
        event_loop_lag: Largest lag of the application's loop in the monitor's window, in seconds.
        memory_container: Whether `memory_limit_mb` is the container's.
    """

    time: float
    cpu: CpuUse
    memory_mb: float | None
    memory_used_mb: float | None
    memory_limit_mb: float | None
    thread_count: int | None
    open_file_descriptors: int | None
    gc_pause_seconds: float
    gc_longest_pause_seconds: float
    event_loop_lag: float | None
    memory_container: bool = False

    @property
    def cpu_percent(self) -> float | None:
        """Of the CPU available to this container or host, 0 to 100."""
        return self.cpu.percent

    @property
    def memory_percent(self) -> float | None:
        """Of the memory available to this container or host, 0 to 100."""
        if self.memory_used_mb is None or not self.memory_limit_mb:
            return None
        return min(100.0, 100.0 * self.memory_used_mb / self.memory_limit_mb)

    @property
    def cpu_scope(self) -> str:
        """Whose CPU `cpu_percent` is about: `container` or `host`."""
        return CONTAINER if self.cpu.container else HOST

    @property
    def memory_scope(self) -> str:
        """Whose memory `memory_percent` is about: `container` or `host`."""
        return CONTAINER if self.memory_container else HOST

    @property
    def cpu_pressure(self) -> float | None:
        """`cpu_percent`, as far as it is this service's affair: 0 where neighbours on the host use it alone."""
        percent, cores = self.cpu_percent, self.cpu.process_cores
        if percent is None or self.cpu.container or cores is None:
            return percent
        return percent if cores >= _BUSY_CORES else 0.0

    @property
    def memory_pressure(self) -> float | None:
        """`memory_percent`, as far as it is this service's affair: 0 where neighbours on the host use it alone."""
        percent = self.memory_percent
        if percent is None or self.memory_container or self.memory_mb is None or not self.memory_limit_mb:
            return percent
        return percent if self.memory_mb >= _LARGE_SHARE * self.memory_limit_mb else 0.0


class SystemHistory:
    """The last samples, and averages and maxima over them; one writer, any readers.

    Args:
        first: The first sample.
        window: How many samples are kept.
    """

    def __init__(self, first: SystemSample, window: int) -> None:
        self._samples: deque[SystemSample] = deque(maxlen=window)
        self._max_cpu: float | None = None
        self._max_memory: float | None = None
        self.add(first)

    def add(self, sample: SystemSample) -> None:
        """Keep `sample` and bring the figures up to date."""
        self._max_cpu = _largest(self._max_cpu, sample.cpu_percent)
        self._max_memory = _largest(self._max_memory, sample.memory_mb)
        self._samples.append(sample)
        self._recent = tuple(self._samples)
        self._summary = self._summarise(sample)

    @property
    def latest(self) -> SystemSample:
        """The latest sample."""
        return self._recent[-1]

    def recent(self, count: int) -> list[SystemSample]:
        """The latest samples, at most `count`, oldest first."""
        return list(self._recent[-count:]) if count > 0 else []

    def summary(self) -> dict[str, Any]:
        """The documented block, from values at hand.

        `cpu_percent`, `avg_cpu_percent`, `max_cpu_percent` (of the CPU available, 0 to 100) and `memory_mb`,
        `avg_memory_mb`, `max_memory_mb` (of this process, in units of 1024 * 1024 bytes): averages over the samples
        kept, maxima since this process began to sample. `cpu_interval_seconds` is what the current CPU figures are
        measured over; while it is null no interval is over yet, and the CPU figures are the process's own share since
        the process began. Further keys are named as in `SystemSample` and `CpuUse`; null: not to be had here.
        """
        return dict(self._summary)

    def _summarise(self, sample: SystemSample) -> dict[str, Any]:
        cpu = sample.cpu
        percent = cpu.percent if cpu.seconds is not None else cpu.process_percent
        average = _mean(each.cpu_percent for each in self._recent)
        figures = {
            "cpu_percent": percent,
            "memory_mb": sample.memory_mb,
            "avg_cpu_percent": percent if average is None else average,
            "avg_memory_mb": _mean(each.memory_mb for each in self._recent),
            "max_cpu_percent": percent if self._max_cpu is None else self._max_cpu,
            "max_memory_mb": self._max_memory,
            "cpu_interval_seconds": cpu.seconds,
            "cpu_limit": cpu.limit,
            "process_cpu_percent": cpu.process_percent,
            "process_cpu_cores": cpu.process_cores,
            "memory_percent": sample.memory_percent,
            "memory_used_mb": sample.memory_used_mb,
            "memory_limit_mb": sample.memory_limit_mb,
        }
        return {
            **{name: None if value is None else round(value, 2) for name, value in figures.items()},
            "thread_count": sample.thread_count,
            "open_file_descriptors": sample.open_file_descriptors,
            "gc_pause_seconds": round(sample.gc_pause_seconds, 6),
            "gc_longest_pause_seconds": round(sample.gc_longest_pause_seconds, 6),
        }


def _largest(*values: float | None) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
