"""`CpuMeter`: use of the available CPU, from the difference of counters over an interval."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import psutil

from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.system.cgroup import Cgroup, CpuQuota

T = TypeVar("T")

# Kernels count CPU time in ticks of 10 ms: over a shorter interval the rounding error is too large.
_SHORTEST_SECONDS = 0.2

_reading_quota = fail_open("reading the container's CPU")
_reading_cpus = fail_open("reading the CPUs")
_reading_process = fail_open("reading the process's CPU")
_looking_up = fail_open("looking up this process")


def read_or_none(guard: fail_open, read: Callable[[], T]) -> T | None:
    """The result of `read`; None if it fails, which `guard` counts and logs."""
    with guard:
        return read()
    return None


def own_process() -> psutil.Process | None:
    """This process in psutil; None if that fails, e.g. without an entry in `/proc`."""
    return read_or_none(_looking_up, psutil.Process)


def read_process(guard: fail_open, process: psutil.Process | None, read: Callable[[psutil.Process], T]) -> T | None:
    """The result of `read` for `process`; None if it fails, which `guard` counts and logs, or without a process."""
    return read_or_none(guard, lambda: read(process)) if process is not None else None


class CpuUse(NamedTuple):
    """Use of the CPU over an interval; a figure that cannot be measured is None.

    Attributes:
        percent: Use (0 to 100) of the CPU available to this container (its quota) or host (the CPUs on which this
            process may run), by all processes there. None before the first interval has ended.
        process_percent: Use of the same CPU by this process alone. In the first interval: since the process started.
        process_cores: CPU seconds per second of this process. 1.0 is one fully used core, the maximum for the Python
            code of one process under the GIL.
        limit: Number of available cores.
        seconds: Length of the interval; None before the first interval has ended.
        container: Whether `percent` refers to the quota of a container, rather than to the host.
    """

    percent: float | None = None
    process_percent: float | None = None
    process_cores: float | None = None
    limit: float | None = None
    seconds: float | None = None
    container: bool = False


class _Counters(NamedTuple):
    at: float
    process: float | None
    host: dict[int, tuple[float, float]]  # CPU → (busy, total) seconds
    quota: CpuQuota | None


class CpuMeter:
    """Measures the use of the CPU from one call of `measure` to the next. Make one in each process, after a fork.

    Args:
        now: Start of the first interval, in seconds of a monotonic clock.
        cgroup: The container's limits.
    """

    def __init__(self, now: float, cgroup: Cgroup) -> None:
        self._cgroup = cgroup
        self._process = own_process()
        self._before = self._read(now)
        self._use: CpuUse | None = None

    def measure(self, now: float, lifetime: float | None) -> CpuUse:
        """The use since the last call; within 0.2 seconds of the last call its result is returned again.

        Args:
            now: Seconds of the constructor's clock.
            lifetime: Seconds since the process started, over which the first result is computed; None: unknown.
        """
        elapsed = now - self._before.at
        if elapsed < _SHORTEST_SECONDS and self._use is not None and self._use.seconds is not None:
            return self._use
        counters, available = self._read(now), self._available()
        if elapsed < _SHORTEST_SECONDS:
            return _use_of_process(counters.process, lifetime, _limit(counters.quota, available))
        limit = _limit(counters.quota, available)
        used = _difference(self._before.process, counters.process)
        use = _use_of_process(used, elapsed, limit)
        percent = self._percent(counters, available, elapsed)
        self._before = counters
        container = _narrower(counters.quota, available) is not None
        self._use = CpuUse(percent, use.process_percent, use.process_cores, limit, elapsed, container)
        return self._use

    def _read(self, now: float) -> _Counters:
        process = read_process(_reading_process, self._process, lambda process: sum(process.cpu_times()[:2]))
        host = read_or_none(
            _reading_cpus, lambda: {n: _busy(times) for n, times in enumerate(psutil.cpu_times(percpu=True))}
        )
        return _Counters(now, process, host or {}, read_or_none(_reading_quota, self._cgroup.cpu))

    def _available(self) -> frozenset[int]:
        """The CPUs on which this process may run: by affinity and cpuset, else all."""
        everything = frozenset(range(psutil.cpu_count() or 1))
        affinity = read_process(_reading_cpus, self._process, _affinity) or everything
        allowed = read_or_none(_reading_quota, self._cgroup.cpus) or affinity
        return affinity & allowed or affinity

    def _percent(self, now: _Counters, available: frozenset[int], elapsed: float) -> float | None:
        quota = _narrower(now.quota, available)
        if quota is not None:
            before = self._before.quota
            used = _difference(before.used_seconds if before else None, quota.used_seconds)
            return None if used is None else _percentage(used, elapsed * quota.cores)
        cpus = now.host.keys() & self._before.host.keys()
        if len(available) < len(cpus):  # otherwise all CPUs, whatever their numbers
            cpus &= available
        busy = total = 0.0
        for cpu in cpus:
            busy += now.host[cpu][0] - self._before.host[cpu][0]
            total += now.host[cpu][1] - self._before.host[cpu][1]
        return _percentage(busy, total)


def _narrower(quota: CpuQuota | None, available: frozenset[int]) -> CpuQuota | None:
    """`quota` if it is lower than the number of CPUs on which this process may run, else None."""
    return quota if quota is not None and quota.cores < len(available) else None


def _affinity(process: psutil.Process) -> frozenset[int]:
    return frozenset(process.cpu_affinity() or ()) if hasattr(process, "cpu_affinity") else frozenset()


def _limit(quota: CpuQuota | None, available: frozenset[int]) -> float:
    return min(quota.cores, len(available)) if quota is not None else float(len(available))


def _use_of_process(used: float | None, elapsed: float | None, limit: float) -> CpuUse:
    if used is None or not elapsed or elapsed <= 0:
        return CpuUse(limit=limit)
    return CpuUse(process_percent=_percentage(used, elapsed * limit), process_cores=used / elapsed, limit=limit)


def _busy(times: Any) -> tuple[float, float]:
    """Busy and total seconds. Linux includes guest time in `user` and `nice`; waiting for I/O counts as idle."""
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total - times.idle - getattr(times, "iowait", 0.0), total


def _difference(before: float | None, now: float | None) -> float | None:
    """`now - before`; None if one is None, or the counter decreased: the process moved to another group."""
    return now - before if before is not None and now is not None and now >= before else None


def _percentage(part: float, whole: float) -> float | None:
    """`part` of `whole` in percent, limited to 0 to 100, because bursts and rounding may exceed a quota."""
    return min(100.0, max(0.0, 100.0 * part / whole)) if whole > 0 else None
