"""Limits are read as the kernel writes them: version 1, version 2, nested groups, containers' views."""

from pathlib import Path

import pytest

from otel_monitoring.instrumentation.system.cgroup import Cgroup

UNIFIED = "0::{path}\n"
UNIFIED_MOUNT = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid,nodev shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MEMBERS = "12:cpuset:{path}\n5:memory:{path}\n3:cpu,cpuacct:{path}\n1:name=systemd:{path}\n0::/\n"
V1_MOUNTS = (
    "31 30 0:28 {root} /sys/fs/cgroup/memory rw,nosuid master:11 - cgroup cgroup rw,memory\n"
    "32 30 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw,nosuid master:12 - cgroup cgroup rw,cpu,cpuacct\n"
    "33 30 0:30 {root} /sys/fs/cgroup/cpuset rw,nosuid - cgroup cpuset rw,cpuset\n"
    "34 30 0:31 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw\n"
)
V1_UNLIMITED = "9223372036854771712\n"
OTHER_MOUNTS = "23 28 0:21 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n24 28 0:5 / /proc rw - proc proc rw\nnonsense\n"


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def unified(root: Path, files: dict[str, str], *, path: str = "/", mounted: str = "/") -> Cgroup:
    tree(root, {f"sys/fs/cgroup/{name}": text for name, text in files.items()})
    tree(
        root,
        {
            "proc/self/cgroup": UNIFIED.format(path=path),
            "proc/self/mountinfo": OTHER_MOUNTS + UNIFIED_MOUNT.format(root=mounted),
        },
    )
    return Cgroup(root)


def version1(root: Path, files: dict[str, str], *, path: str = "/", mounted: str = "/") -> Cgroup:
    tree(root, {f"sys/fs/cgroup/{name}": text for name, text in files.items()})
    tree(
        root,
        {
            "proc/self/cgroup": V1_MEMBERS.format(path=path),
            "proc/self/mountinfo": OTHER_MOUNTS + V1_MOUNTS.format(root=mounted),
        },
    )
    return Cgroup(root)


def test_version_2_in_a_container(tmp_path: Path) -> None:
    cgroup = unified(
        tmp_path,
        {
            "cpu.max": "150000 100000\n",
            "cpu.stat": "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\nnr_periods 0\n",
            "memory.max": "268435456\n",
            "memory.current": "104857600\n",
            "memory.stat": "anon 60000000\nfile 40000000\ninactive_anon 1\nactive_file 9\ninactive_file 20971520\n",
            "cpuset.cpus.effective": "0-2,5\n",
        },
    )
    cpu, memory = cgroup.cpu(), cgroup.memory()
    assert cpu is not None
    assert (cpu.cores, cpu.used_seconds) == (1.5, 2.5)
    assert memory is not None
    assert (memory.limit, memory.used) == (268435456, 104857600 - 20971520)
    assert cgroup.cpus() == frozenset({0, 1, 2, 5})


def test_the_tightest_limit_on_the_way_up_wins_with_its_own_use(tmp_path: Path) -> None:
    cgroup = unified(
        tmp_path,
        {
            "app.slice/cpu.max": "max 100000\n",
            "app.slice/pod/cpu.max": "50000 100000\n",
            "app.slice/pod/cpu.stat": "usage_usec 7000000\n",
            "app.slice/pod/memory.max": "1000000\n",
            "app.slice/pod/memory.current": "900000\n",
            "app.slice/pod/memory.stat": "inactive_file 100000\n",
            "app.slice/pod/main/cpu.max": "200000 100000\n",
            "app.slice/pod/main/cpu.stat": "usage_usec 1000000\n",
            "app.slice/pod/main/memory.max": "2000000\n",
            "app.slice/pod/main/memory.current": "400000\n",
        },
        path="/app.slice/pod/main",
    )
    cpu, memory = cgroup.cpu(), cgroup.memory()
    assert cpu is not None
    assert (cpu.cores, cpu.used_seconds) == (0.5, 7.0)
    assert memory is not None
    assert (memory.limit, memory.used) == (1000000, 800000)


def test_limits_changed_at_run_time_are_seen(tmp_path: Path) -> None:
    cgroup = unified(tmp_path, {"memory.max": "max\n", "memory.current": "5\n"})
    assert cgroup.memory() is None
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("100\n")
    memory = cgroup.memory()
    assert memory is not None
    assert memory.limit == 100


def test_version_1_with_controllers_mounted_together(tmp_path: Path) -> None:
    cgroup = version1(
        tmp_path,
        {
            "cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "25000\n",
            "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "50000\n",
            "cpu,cpuacct/docker/abc/cpu.stat": "nr_periods 10\nnr_throttled 2\nthrottled_time 100\n",
            "cpu,cpuacct/docker/abc/cpuacct.usage": "1500000000\n",
            "memory/docker/abc/memory.limit_in_bytes": "536870912\n",
            "memory/docker/abc/memory.usage_in_bytes": "300000000\n",
            "memory/docker/abc/memory.stat": "inactive_file 1\ntotal_inactive_file 100000000\n",
            "memory/memory.limit_in_bytes": V1_UNLIMITED,
            "cpuset/docker/abc/cpuset.cpus": "1\n",
        },
        path="/docker/abc",
    )
    cpu, memory = cgroup.cpu(), cgroup.memory()
    assert cpu is not None
    assert (cpu.cores, cpu.used_seconds) == (0.5, 1.5)
    assert memory is not None
    assert (memory.limit, memory.used) == (536870912, 200000000)
    assert cgroup.cpus() == frozenset({1})


def test_a_container_that_sees_host_paths_but_only_its_own_group(tmp_path: Path) -> None:
    cgroup = version1(
        tmp_path,
        {
            "cpu,cpuacct/cpu.cfs_quota_us": "100000\n",
            "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "cpu,cpuacct/cpuacct.usage": "2000000000\n",
            "memory/memory.limit_in_bytes": "1000\n",
            "memory/memory.usage_in_bytes": "600\n",
        },
        path="/docker/abc",
        mounted="/docker/abc",
    )
    cpu, memory = cgroup.cpu(), cgroup.memory()
    assert cpu is not None
    assert (cpu.cores, cpu.used_seconds) == (1.0, 2.0)
    assert memory is not None
    assert (memory.limit, memory.used) == (1000, 600)


def test_version_1_tells_limits_of_groups_that_cannot_be_seen(tmp_path: Path) -> None:
    cgroup = version1(
        tmp_path,
        {
            "memory/memory.limit_in_bytes": V1_UNLIMITED,
            "memory/memory.usage_in_bytes": "600\n",
            "memory/memory.stat": "hierarchical_memory_limit 2000\ntotal_inactive_file 100\n",
        },
    )
    memory = cgroup.memory()
    assert memory is not None
    assert (memory.limit, memory.used) == (2000, 500)


def test_version_1_with_accounting_mounted_apart(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            "proc/self/cgroup": "2:cpuacct:/a/b\n1:cpu:/a/b\n",
            "proc/self/mountinfo": (
                "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
                "33 31 0:30 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpuacct\n"
            ),
            "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "10000\n",
            "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpuacct/a/cpuacct.usage": "3000000000\n",
            "sys/fs/cgroup/cpuacct/a/b/cpuacct.usage": "1000000000\n",
        },
    )
    cpu = Cgroup(tmp_path).cpu()
    assert cpu is not None
    assert (cpu.cores, cpu.used_seconds) == (0.1, 3.0)


@pytest.mark.parametrize("unlimited", [V1_UNLIMITED, "9223372036854775807\n", "18446744073709551615\n"])
def test_huge_values_and_minus_one_are_no_limit(tmp_path: Path, unlimited: str) -> None:
    cgroup = version1(
        tmp_path,
        {
            "cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "memory/memory.limit_in_bytes": unlimited,
            "memory/memory.usage_in_bytes": "600\n",
            "memory/memory.stat": f"hierarchical_memory_limit {unlimited}",
        },
    )
    assert cgroup.cpu() is None
    assert cgroup.memory() is None


def test_max_is_no_limit(tmp_path: Path) -> None:
    cgroup = unified(tmp_path, {"cpu.max": "max 100000\n", "memory.max": "max\n", "memory.high": "1\n"})
    assert cgroup.cpu() is None
    assert cgroup.memory() is None


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    cgroup = Cgroup(tmp_path)
    assert (cgroup.cpu(), cgroup.memory(), cgroup.cpus()) == (None, None, None)


@pytest.mark.parametrize("content", ["", "\n", "ten twenty\n", "100000\n", "-5 -5\n", "1 0\n", "\x00\xff", "½ 1\n"])
def test_unknown_forms_are_no_limit(tmp_path: Path, content: str) -> None:
    cgroup = unified(tmp_path, {"cpu.max": content, "memory.max": "²\n", "cpuset.cpus.effective": "a-b,,-\n"})
    assert (cgroup.cpu(), cgroup.memory(), cgroup.cpus()) == (None, None, None)


def test_a_limit_without_readable_use_keeps_the_limit(tmp_path: Path) -> None:
    cgroup = unified(tmp_path, {"cpu.max": "50000 100000", "memory.max": "100\n"})
    cpu, memory = cgroup.cpu(), cgroup.memory()
    assert cpu is not None
    assert (cpu.cores, cpu.used_seconds) == (0.5, None)
    assert memory is not None
    assert (memory.limit, memory.used) == (100, None)


def test_the_working_set_is_never_negative(tmp_path: Path) -> None:
    files = {"memory.max": "100\n", "memory.current": "50\n", "memory.stat": "inactive_file 70\n"}
    memory = unified(tmp_path, files).memory()
    assert memory is not None
    assert memory.used == 0


@pytest.mark.parametrize("path", ["/../other", "/gone/away", "relative", ""])
def test_a_path_outside_the_mount_means_the_mounted_group(tmp_path: Path, path: str) -> None:
    tree(tmp_path, {"sys/fs/memory.max": "1\n", "sys/fs/other/memory.max": "1\n"})
    cgroup = unified(tmp_path, {"memory.max": "100\n"}, path=path)
    memory = cgroup.memory()
    assert memory is not None
    assert memory.limit == 100


def test_mount_points_with_blanks(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/a b\n",
            "proc/self/mountinfo": "30 23 0:26 / /sys/fs/my\\040cgroup rw - cgroup2 cgroup2 rw\n",
            "sys/fs/my cgroup/a b/memory.max": "100\n",
        },
    )
    memory = Cgroup(tmp_path).memory()
    assert memory is not None
    assert memory.limit == 100
