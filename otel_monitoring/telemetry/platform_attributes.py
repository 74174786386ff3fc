"""Where a service runs, as attributes of its resource: host, operating system, process, container, pod.

Source: OpenTelemetry semantic conventions 1.44, https://opentelemetry.io/docs/specs/semconv/resource/. The arguments of
the process are left out: they may contain secrets.
"""

import os
import platform
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from otel_monitoring.config.kubernetes import in_kubernetes, kubernetes_names

Attributes = dict[str, str | int]

_ARCHITECTURES: Final = {
    **dict.fromkeys(("x86_64", "amd64", "x64"), "amd64"),
    **dict.fromkeys(("aarch64", "arm64"), "arm64"),
    **dict.fromkeys(("armv6l", "armv7l", "armv8l", "arm"), "arm32"),
    **dict.fromkeys(("i386", "i486", "i586", "i686", "x86"), "x86"),
    **dict.fromkeys(("ppc64", "ppc64le"), "ppc64"),
}
"""`host.arch` by the machine's own name."""
_TYPES: Final = {"sunos": "solaris", "dragonfly": "dragonflybsd", "hp-ux": "hpux", "os/390": "z_os"}
"""`os.type` by the system's own name."""

# A container's group has its id, as docker-<id>.scope, cri-containerd:<id>, /docker/<id>, and may have groups below; on
# Fargate the id is that of the task with a number. crio-conmon-<id> is the group of the monitor beside the container.
_GROUP_ID = re.compile(r"(?:^|[/:]|(?<!conmon)-)([0-9a-f]{64}|[0-9a-f]{32}-\d+)(?:\.scope)?(?=/|$)")
# Runtimes mount files of their own folder of the container. `sandboxes` are those of the pod.
_MOUNT_ID = re.compile(r"/(?:overlay-)?containers/(?:storage/overlay-containers/)?([0-9a-f]{64})/")
_POD_UID = re.compile(r"[/-]pod(?:s/)?([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})")
_POD_CONTAINER = re.compile(r"/pods/[0-9a-f-]{36}/containers/([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)/")
_NAMESPACE_FILE: Final = "var/run/secrets/kubernetes.io/serviceaccount/namespace"
_MACHINE_ID_FILES: Final = ("etc/machine-id", "var/lib/dbus/machine-id")


def process_attributes() -> Attributes:
    """This process and its interpreter; they are others after a fork."""
    return {
        "process.pid": os.getpid(),
        "process.executable.name": Path(sys.executable or "").name,
        "process.runtime.name": sys.implementation.name,
        "process.runtime.version": platform.python_version(),
        "process.runtime.description": sys.version,
    }


def platform_attributes(root: Path = Path("/")) -> Attributes:
    """Host, operating system, container and pod.

    Args:
        root: The directory with `proc`, `etc` and `var`.
    """
    groups, mounts = _lines(root / "proc/self/cgroup"), list(_mounted(_lines(root / "proc/self/mountinfo")))
    contained, pod = _first(_container_ids(groups, mounts)), _pod(root, groups, mounts)
    attributes: dict[str, str | int | None] = {
        "host.name": socket.gethostname(),
        "host.arch": _ARCHITECTURES.get(platform.machine().lower(), platform.machine().lower()),
        # A container has the machine id of its image, if any: every container of the image the same.
        "host.id": None if contained or in_kubernetes() or pod["k8s.pod.uid"] else _first(_machine_ids(root)),
        "os.type": _os_type(),
        "os.version": platform.version() if os.name == "nt" else platform.release(),
        "os.description": _os_description(root),
        "container.id": contained,
        **pod,
    }
    return {name: value for name, value in attributes.items() if value}


def _os_type() -> str:
    system = platform.system().lower()
    return _TYPES.get(system, system)


def _os_description(root: Path) -> str:
    """As `Debian GNU/Linux 12 (bookworm)`, from the file of https://www.freedesktop.org/software/systemd/man/os-release.html."""
    for line in _lines(root / "etc/os-release"):
        name, _, value = line.partition("=")
        if name == "PRETTY_NAME":
            return value.strip().strip("\"'")
    return platform.platform()


def _machine_ids(root: Path) -> Iterator[str]:
    """https://opentelemetry.io/docs/specs/semconv/resource/host/#non-privileged-machine-id-lookup."""
    for name in _MACHINE_ID_FILES:
        yield from (line.strip() for line in _lines(root / name))


def _mounted(lines: list[str]) -> Iterator[str]:
    """What is mounted, of each mount; where it is mounted tells, on a host, of the containers that run there."""
    for line in lines:
        fields = line.split(" ", 4)
        if len(fields) == 5:  # id, parent, device, root, and the rest
            yield fields[3]


def _container_ids(groups: list[str], mounts: list[str]) -> Iterator[str]:
    for line in groups:
        yield from _GROUP_ID.findall(line)[-1:]  # a container in a container stands below it
    for mount in mounts:  # in version 2 of control groups, a container sees its own group as the root
        if found := _MOUNT_ID.search(mount):
            yield found[1]


def _pod(root: Path, groups: list[str], mounts: list[str]) -> Mapping[str, str | None]:
    """What variables say about the pod, and what the kubelet's mounts and control groups show without them."""
    uids = [found[1] for line in (*mounts, *groups) if (found := _POD_UID.search(line))]
    names = [found[1] for line in mounts if (found := _POD_CONTAINER.search(line))]
    seen = {
        "k8s.pod.uid": _first(uid.replace("_", "-") for uid in uids),
        "k8s.container.name": _first(names),
        "k8s.namespace.name": _first(line.strip() for line in _lines(root / _NAMESPACE_FILE)),
    }
    return {**seen, **kubernetes_names()}


def _first(texts: "Iterator[str] | list[str]") -> str | None:
    return next(filter(None, iter(texts)), None)


def _lines(path: Path) -> list[str]:
    """The lines of a file; none where it cannot be read."""
    with suppress(OSError, UnicodeError):
        return path.read_text(encoding="utf-8").splitlines()
    return []
