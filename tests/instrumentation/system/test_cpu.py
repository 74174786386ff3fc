"""CPU shares come from counters as kernels keep them: quota first, then the CPUs this process may run on."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.system.cgroup import Cgroup
from otel_monitoring.instrumentation.system.cpu import CpuMeter
from tests.instrumentation.system.test_cgroup import unified

linux = pytest.mark.skipif(sys.platform != "linux", reason="the counters are files on Linux only")
NO_LIMIT: dict[str, str] = {}


@pytest.fixture
def stat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A `/proc/stat` to write, in a `/proc` that is otherwise the real one."""
    procfs = tmp_path / "procfs"
    procfs.mkdir()
    for name in (str(os.getpid()), "meminfo", "cpuinfo", "self"):
        (procfs / name).symlink_to(f"/proc/{name}")
    write_stat(procfs / "stat", [(0, 0)] * (psutil.cpu_count() or 1))
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(procfs))
    yield procfs / "stat"
    monkeypatch.undo()


def write_stat(path: Path, cpus: list[tuple[int, int]]) -> None:
    """`cpus`: busy and idle ticks. Half the busy ones are a guest's, which the kernel counts in `user` as well."""
    lines = [
        f"cpu{number} {busy - 1 if busy else 0} 0 {1 if busy else 0} {idle // 2} {idle - idle // 2} 0 0 0 {busy // 2} 0"
        for number, (busy, idle) in enumerate(cpus)
    ]
    path.write_text("\n".join(["cpu  0 0 0 0 0 0 0 0 0 0", *lines, "btime 1700000000", ""]))


def burn(seconds: float) -> float:
    """Use CPU for about `seconds`; how much it was."""
    start = time.process_time()
    while time.process_time() - start < seconds:
        sum(range(1000))
    return time.process_time() - start


def test_a_quota_is_what_the_share_is_of(tmp_path: Path) -> None:
    stat = "usage_usec {}\nuser_usec 1\n"
    cgroup = unified(tmp_path, {"cpu.max": "50000 100000\n", "cpu.stat": stat.format(1_000_000)})
    meter = CpuMeter(100.0, cgroup)
    (tmp_path / "sys/fs/cgroup/cpu.stat").write_text(stat.format(2_000_000))
    use = meter.measure(110.0, lifetime=None)
    assert use.percent == pytest.approx(20.0)  # 1 s of 10 s times half a core
    assert (use.limit, use.seconds) == (0.5, 10.0)


def test_bursts_beyond_the_quota_are_100_percent(tmp_path: Path) -> None:
    cgroup = unified(tmp_path, {"cpu.max": "50000 100000\n", "cpu.stat": "usage_usec 0\n"})
    meter = CpuMeter(100.0, cgroup)
    (tmp_path / "sys/fs/cgroup/cpu.stat").write_text("usage_usec 9000000\n")
    assert meter.measure(110.0, lifetime=None).percent == 100.0


@pytest.mark.parametrize("after", ["usage_usec 5\n", "", "nr_periods 0\n"])
def test_a_counter_that_went_back_or_away_is_unknown(tmp_path: Path, after: str) -> None:
    cgroup = unified(tmp_path, {"cpu.max": "50000 100000\n", "cpu.stat": "usage_usec 1000000\n"})
    meter = CpuMeter(100.0, cgroup)
    (tmp_path / "sys/fs/cgroup/cpu.stat").write_text(after)
    use = meter.measure(110.0, lifetime=None)
    assert use.percent is None
    assert use.process_percent is not None


@linux
def test_without_quota_it_is_the_cpus_of_the_host(tmp_path: Path, stat: Path) -> None:
    cpus = psutil.cpu_count() or 1
    meter = CpuMeter(100.0, Cgroup(tmp_path))
    write_stat(stat, [(300, 700)] * cpus)
    use = meter.measure(110.0, lifetime=None)
    assert use.percent == pytest.approx(30.0)


@linux
def test_only_the_cpus_this_process_may_run_on_count(tmp_path: Path, stat: Path) -> None:
    cpus = psutil.cpu_count() or 1
    if cpus < 2:
        pytest.skip("needs two CPUs")
    mine = min(os.sched_getaffinity(0))
    cgroup = unified(tmp_path, {"cpuset.cpus.effective": f"{mine}\n"})
    meter = CpuMeter(100.0, cgroup)
    write_stat(stat, [(900, 100) if cpu == mine else (0, 1000) for cpu in range(cpus)])
    use = meter.measure(110.0, lifetime=None)
    assert use.percent == pytest.approx(90.0)
    assert use.limit == 1.0


@linux
def test_a_quota_above_the_host_does_not_bind(tmp_path: Path, stat: Path) -> None:
    cpus = psutil.cpu_count() or 1
    cgroup = unified(tmp_path, {"cpu.max": f"{(cpus + 1) * 100_000} 100000\n", "cpu.stat": "usage_usec 0\n"})
    meter = CpuMeter(100.0, cgroup)
    write_stat(stat, [(500, 500)] * cpus)
    use = meter.measure(110.0, lifetime=None)
    assert use.percent == pytest.approx(50.0)
    assert use.limit is not None
    assert use.limit <= cpus


def test_the_process_own_use(tmp_path: Path) -> None:
    cgroup = unified(tmp_path, {"cpu.max": "80000 100000\n"})
    meter = CpuMeter(100.0, cgroup)
    burned = burn(0.3)
    use = meter.measure(101.0, lifetime=None)
    assert use.process_cores == pytest.approx(burned, abs=0.1)
    assert use.process_percent == pytest.approx(100 * burned / 0.8, abs=13)


def test_the_first_interval_of_the_process_is_its_life(tmp_path: Path) -> None:
    meter = CpuMeter(100.0, unified(tmp_path, {"cpu.max": "50000 100000\n"}))
    used = time.process_time()
    use = meter.measure(100.0, lifetime=used * 4)
    assert use.process_percent == pytest.approx(50.0, rel=0.2)
    assert (use.percent, use.seconds) == (None, None)


def test_called_again_at_once_it_repeats_itself(tmp_path: Path) -> None:
    meter = CpuMeter(100.0, unified(tmp_path, {"cpu.max": "50000 100000\n", "cpu.stat": "usage_usec 0\n"}))
    first = meter.measure(110.0, lifetime=None)
    (tmp_path / "sys/fs/cgroup/cpu.stat").write_text("usage_usec 1000000\n")
    assert meter.measure(110.1, lifetime=None) is first
    later = meter.measure(120.0, lifetime=None)
    assert later.percent == pytest.approx(20.0)
    assert later.seconds == 10.0


def test_a_clock_that_stands_still_divides_by_nothing(tmp_path: Path) -> None:
    meter = CpuMeter(100.0, Cgroup(tmp_path))
    assert meter.measure(100.0, lifetime=0.0).process_percent is None
    assert meter.measure(90.0, lifetime=None).percent is None
    assert not fail_open.failures
