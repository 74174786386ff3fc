"""`Cgroup`: CPU and memory limits of the container of this process (Linux control groups, versions 1 and 2).

Sources: https://docs.kernel.org/admin-guide/cgroup-v2.html and …/cgroup-v1/. The working set is usage minus
`inactive_file`, as in Kubernetes and cAdvisor. `memory.high` is not used: above it the kernel reclaims memory and does
not kill.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

# In version 1 "no limit" is the largest multiple of the page size below 2**63.
_UNLIMITED = 1 << 60
_UNIFIED = ""


class CpuQuota(NamedTuple):
    """The lowest CPU quota for this process.

    Attributes:
        cores: The quota, in CPU seconds per second.
        used_seconds: CPU seconds used so far by all processes under the quota; None if it cannot be read.
    """

    cores: float
    used_seconds: float | None


class MemoryLimit(NamedTuple):
    """The lowest memory limit for this process.

    Attributes:
        limit: The limit, in bytes.
        used: Working set, in bytes, of all processes under the limit; None if it cannot be read.
    """

    limit: int
    used: int | None


class Cgroup:
    """Reads the limits of this process's group and of all visible groups above it.

    A file that is absent, unreadable or of an unknown format means "no limit"; no method raises.

    Args:
        root: The directory with `proc` and `sys`.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        paths = _own_paths(_read(root / "proc/self/cgroup"))
        mounts = _mounts(_read(root / "proc/self/mountinfo"))
        self._levels = {
            controller: tuple(_upwards(root, *mounts[controller], path))
            for controller, path in paths.items()
            if controller in mounts
        }

    def cpu(self) -> CpuQuota | None:
        """The lowest quota (`cpu.max`, `cpu.cfs_quota_us`); None without one."""
        quotas = [(cores, level) for level in self._of("cpu") if (cores := _quota(level)) is not None]
        if not quotas:
            return None
        cores, level = min(quotas, key=lambda quota: quota[0])
        return CpuQuota(cores, self._cpu_seconds(level))

    def memory(self) -> MemoryLimit | None:
        """The lowest limit (`memory.max`, `memory.limit_in_bytes`) and its working set; None without one."""
        limits = [(limit, level) for level in self._of("memory") if (limit := _memory_limit(level)) is not None]
        if not limits:
            return None
        limit, level = min(limits, key=lambda each: each[0])
        return MemoryLimit(limit, _working_set(level))

    def cpus(self) -> frozenset[int] | None:
        """The numbers of the CPUs that the group may use (cpuset); None if there is no such restriction."""
        for level in self._of("cpuset"):
            for name in ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"):
                if numbers := _cpu_list(_read(level / name)):
                    return numbers
        return None

    def _of(self, controller: str) -> tuple[Path, ...]:
        # A controller is in one hierarchy only: of version 1, or the unified one.
        return self._levels.get(controller) or self._levels.get(_UNIFIED, ())

    def _cpu_seconds(self, level: Path) -> float | None:
        unified = _fields(_read(level / "cpu.stat")).get("usage_usec")
        if unified is not None:
            return unified / 1e6
        # Version 1 may mount `cpuacct` separately: the group at the same distance from the top is the same one.
        cpu, accounting = self._of("cpu"), self._levels.get("cpuacct", ())
        height = len(cpu) - cpu.index(level)
        group = accounting[-height] if height <= len(accounting) else level
        nanoseconds = _number(_read(group / "cpuacct.usage"))
        return nanoseconds / 1e9 if nanoseconds is not None else None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except (OSError, ValueError):  # ValueError: a mount point whose path contains NUL
        return ""


def _own_paths(text: str) -> dict[str, str]:
    """Controller → path of this process's group, from `/proc/self/cgroup`; the unified hierarchy is ''."""
    paths = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, separator, path = rest.partition(":")
        if separator:
            paths.update(dict.fromkeys(controllers.split(","), path))
    return paths


def _mounts(text: str) -> dict[str, tuple[str, str]]:
    """Controller → (mounted group, mount point), from `/proc/self/mountinfo` (proc_pid_mountinfo(5))."""
    mounts: dict[str, tuple[str, str]] = {}
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        where, what = left.split(), right.split()
        if len(where) < 5 or len(what) < 3 or what[0] not in ("cgroup", "cgroup2"):
            continue
        controllers = [_UNIFIED] if what[0] == "cgroup2" else what[2].split(",")
        for controller in controllers:
            mounts.setdefault(controller, (_unescaped(where[3]), _unescaped(where[4])))
    return mounts


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), field)


def _upwards(root: Path, mounted: str, mount_point: str, path: str) -> Iterator[Path]:
    """The directories of this process's group and of all groups above it, up to the mount point."""
    top = root / mount_point.lstrip("/")
    own = PurePosixPath(path)
    # Without a cgroup namespace of its own, a container sees paths of the host, but only its own group is mounted.
    inside = own.relative_to(mounted) if own.is_relative_to(mounted) and ".." not in own.parts else PurePosixPath()
    level = top / inside
    while level != top:
        if level.is_dir():
            yield level
        level = level.parent
    yield top


def _number(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() else None


def _fields(text: str) -> dict[str, int]:
    """The `name number` lines of the kernel's `*.stat` files."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _quota(level: Path) -> float | None:
    quota, _, period = _read(level / "cpu.max").strip().partition(" ")
    if not quota:
        quota, period = _read(level / "cpu.cfs_quota_us"), _read(level / "cpu.cfs_period_us")
    allowed, every = _number(quota), _number(period)  # "max" and -1 mean no limit
    return allowed / every if allowed and every else None


def _memory_limit(level: Path) -> int | None:
    limits = [_number(_read(level / "memory.max")), _number(_read(level / "memory.limit_in_bytes"))]
    # In version 1 this is the limit of groups above that a container does not see.
    limits.append(_fields(_read(level / "memory.stat")).get("hierarchical_memory_limit"))
    return min((limit for limit in limits if limit is not None and 0 < limit < _UNLIMITED), default=None)


def _working_set(level: Path) -> int | None:
    usage = _number(_read(level / "memory.current"))
    if usage is None:
        usage = _number(_read(level / "memory.usage_in_bytes"))
    if usage is None:
        return None
    stat = _fields(_read(level / "memory.stat"))
    return max(0, usage - stat.get("total_inactive_file", stat.get("inactive_file", 0)))


def _cpu_list(text: str) -> frozenset[int]:
    """`0-3,8` as numbers."""
    numbers: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        start = _number(first)
        end = _number(last) if last else start
        if start is not None and end is not None:
            numbers.update(range(start, end + 1))
    return frozenset(numbers)
