"""`SystemSample`: one measurement of process and system; `SystemHistory`: the documented figures over many."""

from collections import deque
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from otel_monitoring.instrumentation.system.cpu import CpuUse

MIB: Final = 1024.0 * 1024.0

CONTAINER: Final = "container"
HOST: Final = "host"

_BUSY_CORES: Final = 0.25
_LARGE_SHARE: Final = 0.05
"""A process that uses less than a quarter of a core, or less than a twentieth of the memory, has no part in the
pressure on a host, which then comes from other processes."""


class SystemSample(NamedTuple):
    """One measurement of process and system; a figure that is not available here, or not yet, is None.

    Megabytes are 1024 * 1024 bytes, as in limits of containers and in `docker stats`.

    Attributes:
        time: When it was taken, in seconds of the sampler's clock.
        cpu: Use of the CPU since the previous sample.
        memory_mb: Physical memory of this process (RSS).
        memory_used_mb: Memory in use by all processes under the limit: the container's working set, or the memory of
            the host that is not available.
        memory_limit_mb: The container's limit; the host's memory if there is no lower limit.
        thread_count: Threads of this process.
        open_file_descriptors: Open file descriptors of this process; None on Windows.
        gc_pause_seconds: Total duration of garbage collections since the previous sample, in seconds.
        gc_longest_pause_seconds: The longest of them, in seconds.
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
        """Use of the CPU available to this container or host, 0 to 100."""
        return self.cpu.percent

    @property
    def memory_percent(self) -> float | None:
        """Use of the memory available to this container or host, 0 to 100."""
        if self.memory_used_mb is None or not self.memory_limit_mb:
            return None
        return min(100.0, 100.0 * self.memory_used_mb / self.memory_limit_mb)

    @property
    def cpu_scope(self) -> str:
        """Whose CPU `cpu_percent` refers to: `container` or `host`."""
        return CONTAINER if self.cpu.container else HOST

    @property
    def memory_scope(self) -> str:
        """Whose memory `memory_percent` refers to: `container` or `host`."""
        return CONTAINER if self.memory_container else HOST

    @property
    def cpu_pressure(self) -> float | None:
        """`cpu_percent`; 0 if it refers to the host, and this process uses less than a quarter of a core."""
        percent, cores = self.cpu_percent, self.cpu.process_cores
        if percent is None or self.cpu.container or cores is None:
            return percent
        return percent if cores >= _BUSY_CORES else 0.0

    @property
    def memory_pressure(self) -> float | None:
        """`memory_percent`; 0 if it refers to the host, and this process uses less than a twentieth of the memory."""
        percent = self.memory_percent
        if percent is None or self.memory_container or self.memory_mb is None or not self.memory_limit_mb:
            return percent
        return percent if self.memory_mb >= _LARGE_SHARE * self.memory_limit_mb else 0.0


class SystemHistory:
    """The latest samples, with averages and maxima; one thread adds samples, any thread may read.

    Args:
        first: The first sample.
        window: Maximum number of samples that are kept.
    """

    def __init__(self, first: SystemSample, window: int) -> None:
        self._samples: deque[SystemSample] = deque(maxlen=window)
        self._max_cpu: float | None = None
        self._max_memory: float | None = None
        self.add(first)

    def add(self, sample: SystemSample) -> None:
        """Add `sample`, and update the figures."""
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
        """The documented block; nothing is measured for it.

        `cpu_percent`, `avg_cpu_percent` and `max_cpu_percent` are shares of the available CPU (0 to 100). `memory_mb`,
        `avg_memory_mb` and `max_memory_mb` are of this process, in 1024 * 1024 bytes. Averages are over the kept
        samples, maxima over all samples of this process. `cpu_interval_seconds` is the interval of the present CPU
        figures; None before the first interval has ended: then they are the process's own use since its start. Further
        keys are as in `SystemSample` and `CpuUse`; None: not available here.
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
