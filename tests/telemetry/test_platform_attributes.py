"""Attributes of the place where a service runs, read from files as the runtimes leave them."""

import os
import platform
import socket
import sys
from pathlib import Path

import pytest

from otel_monitoring.config.kubernetes import KUBERNETES_VARIABLES
from otel_monitoring.telemetry.platform_attributes import platform_attributes, process_attributes

ID = "3f4d1e5b" * 8
OTHER = "0a1b2c3d" * 8
SANDBOX = f"99 1 8:1 /var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/{OTHER}/hostname /etc/hostname rw - ext4"
UID = "f9f5a2c1-7d11-4b4a-9a7a-0c5f9d1e2b3c"


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*KUBERNETES_VARIABLES, "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)


def files(root: Path, **content: str) -> Path:
    """Files below `root`; in names, `__` stands for `/` and `_dash_` for `-`."""
    for name, text in content.items():
        path = root / name.replace("_dash_", "-").replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_host_and_operating_system(tmp_path: Path) -> None:
    found = platform_attributes(
        files(
            tmp_path,
            etc__machine_dash_id=f"{'a' * 32}\n",
            etc__os_dash_release='NAME="Debian GNU/Linux"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
        )
    )
    assert found["host.name"] == socket.gethostname()
    assert found["host.id"] == "a" * 32
    assert found["os.type"] == platform.system().lower()
    assert found["os.version"] == platform.release()
    assert found["os.description"] == "Debian GNU/Linux 12 (bookworm)"
    assert not {name for name in found if name.startswith(("container.", "k8s."))}


@pytest.mark.parametrize(
    ("machine", "name"),
    [
        ("x86_64", "amd64"),
        ("AMD64", "amd64"),
        ("aarch64", "arm64"),
        ("armv7l", "arm32"),
        ("i686", "x86"),
        ("s390x",) * 2,
    ],
)
def test_architectures_have_the_names_of_the_conventions(
    machine: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert platform_attributes(tmp_path)["host.arch"] == name


def test_the_older_place_of_the_machine_id(tmp_path: Path) -> None:
    assert "host.id" not in platform_attributes(tmp_path)
    found = platform_attributes(files(tmp_path, etc__machine_dash_id="\n", var__lib__dbus__machine_dash_id="beef\n"))
    assert found["host.id"] == "beef"


def test_files_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_bytes(b"\xff\xfe")
    (tmp_path / "etc/os-release").mkdir()
    found = platform_attributes(tmp_path)
    assert "host.id" not in found
    assert found["os.description"] == platform.platform()


@pytest.mark.parametrize(
    "line",
    [
        f"12:memory:/docker/{ID}",
        f"0::/system.slice/docker-{ID}.scope",
        f"1:name=systemd:/kubepods/burstable/pod{UID}/{ID}",
        f"11:cpu:/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/cri-containerd-{ID}.scope",
        f"0::/kubepods.slice/kubepods-besteffort-pod{UID.replace('-', '_')}.slice:cri-containerd:{ID}",
        f"0::/system.slice/crio-{ID}.scope",
        f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope",
        f"0::/machine.slice/libpod-{ID}.scope/container",
        f"0::/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/crio-{ID}.scope/container",
        f"0::/docker/{ID}/init.scope",
        f"0::/docker/{OTHER}/docker/{ID}",
    ],
)
def test_the_container_by_its_control_group(line: str, tmp_path: Path) -> None:
    content = f"13:pids:/\n0::/system.slice/crio-conmon-{OTHER}.scope\n{line}\n"
    found = platform_attributes(files(tmp_path, proc__self__cgroup=content, etc__machine_dash_id="beef"))
    assert found["container.id"] == ID
    assert "host.id" not in found, "a container has the machine id of its image"


def test_the_container_of_a_task_on_fargate(tmp_path: Path) -> None:
    task = f"{'0123456789abcdef' * 2}-2531612879"
    found = platform_attributes(files(tmp_path, proc__self__cgroup=f"1:cpu:/ecs/{'0123456789abcdef' * 2}/{task}\n"))
    assert found["container.id"] == task


@pytest.mark.parametrize(
    "mount",
    [
        f"/var/lib/docker/containers/{ID}/resolv.conf /etc/resolv.conf rw - ext4 /dev/sda1 rw",
        f"/containers/storage/overlay-containers/{ID}/userdata/hostname /etc/hostname rw - tmpfs tmpfs rw",
        f"/var/lib/containers/storage/overlay-containers/{ID}/userdata/hosts /etc/hosts rw - ext4 /dev/sda1 rw",
    ],
)
def test_the_container_by_what_is_mounted_where_its_group_is_the_root(mount: str, tmp_path: Path) -> None:
    sandbox = (
        f"99 1 8:1 /var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/{OTHER}/hostname /etc/hostname rw - ext4"
    )
    content = f"{sandbox}\n100 1 8:1 {mount}\n"
    found = platform_attributes(files(tmp_path, proc__self__cgroup="0::/\n", proc__self__mountinfo=content))
    assert found["container.id"] == ID


@pytest.mark.parametrize(
    "mount",
    [
        f"/ /var/lib/docker/containers/{ID}/mounts/shm rw - tmpfs shm rw",
        f"/ /var/lib/containers/storage/overlay-containers/{ID}/userdata/shm rw - tmpfs shm rw",
        f"/ /var/lib/kubelet/pods/{UID}/volumes/kubernetes.io~projected/kube-api-access rw - tmpfs tmpfs rw",
    ],
)
def test_a_host_is_no_container_of_those_that_run_on_it(mount: str, tmp_path: Path) -> None:
    content = f"100 1 8:1 {mount}\nunreadable\n"
    found = platform_attributes(files(tmp_path, proc__self__mountinfo=content, etc__machine_dash_id="beef"))
    assert found["host.id"] == "beef"
    assert not {name for name in found if name.startswith(("container.", "k8s."))}


def test_a_pod_has_no_host_id_where_its_container_is_not_known(tmp_path: Path) -> None:
    mount = f"100 1 8:1 /var/lib/kubelet/pods/{UID}/etc-hosts /etc/hosts rw - ext4 /dev/sda1 rw"
    found = platform_attributes(files(tmp_path, proc__self__mountinfo=mount, etc__machine_dash_id="beef"))
    assert found["k8s.pod.uid"] == UID
    assert "host.id" not in found


def test_a_pods_sandbox_is_no_container(tmp_path: Path) -> None:
    assert "container.id" not in platform_attributes(files(tmp_path, proc__self__mountinfo=SANDBOX))


def test_the_pod_by_what_the_kubelet_mounts(tmp_path: Path) -> None:
    mounts = (
        f"1 1 8:1 /var/lib/kubelet/pods/{UID}/etc-hosts /etc/hosts rw - ext4 /dev/sda1 rw\n"
        f"2 1 8:1 /var/lib/kubelet/pods/{UID}/containers/orders-api/3f2a9c11 /dev/termination-log rw - ext4 /dev/sda1\n"
    )
    found = platform_attributes(
        files(
            tmp_path,
            proc__self__mountinfo=mounts,
            var__run__secrets__kubernetes__io__serviceaccount__namespace="ignored, another name",
        )
    )
    assert found["k8s.pod.uid"] == UID
    assert found["k8s.container.name"] == "orders-api"
    folder = tmp_path / "var/run/secrets/kubernetes.io/serviceaccount"
    folder.mkdir(parents=True)
    (folder / "namespace").write_text("shop")
    assert platform_attributes(tmp_path)["k8s.namespace.name"] == "shop"


def test_the_pod_by_its_control_group(tmp_path: Path) -> None:
    group = f"0::/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/cri-containerd-{ID}.scope\n"
    assert platform_attributes(files(tmp_path, proc__self__cgroup=group))["k8s.pod.uid"] == UID


def test_variables_of_the_pod_win_over_what_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("K8S_POD_NAME", "orders-7d9f-x2x4")
    monkeypatch.setenv("K8S_POD_UID", "given")
    mounts = f"1 1 8:1 /var/lib/kubelet/pods/{UID}/etc-hosts /etc/hosts rw - ext4 /dev/sda1 rw\n"
    found = platform_attributes(files(tmp_path, proc__self__mountinfo=mounts, etc__machine_dash_id="beef"))
    assert (found["k8s.pod.name"], found["k8s.pod.uid"]) == ("orders-7d9f-x2x4", "given")
    assert "host.id" not in found


def test_the_process_without_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["app", "--password=sesame"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "app", "--password=sesame"])
    found = process_attributes()
    assert found["process.pid"] == os.getpid()
    assert found["process.executable.name"] == Path(sys.executable).name
    assert found["process.runtime.name"] == sys.implementation.name
    assert found["process.runtime.version"] == platform.python_version()
    assert "sesame" not in str(found)
