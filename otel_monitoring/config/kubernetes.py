"""`kubernetes_names`: what the pod's specification tells a service about itself, through the downward API.

The names are those of OpenTelemetry's Helm charts (`K8S_POD_NAME`), its operator (`OTEL_RESOURCE_ATTRIBUTES_POD_NAME`)
and Kubernetes' own examples (`POD_NAME`); the latter count inside a cluster alone, because other programs set them too.
"""

import os
from typing import Final

_NAMED: Final = (
    *("cluster", "node", "namespace", "pod", "container"),
    *("deployment", "statefulset", "daemonset", "replicaset", "job", "cronjob"),
)
_VARIABLES: Final = {f"k8s.{kind}.name": (f"K8S_{kind.upper()}_NAME",) for kind in _NAMED} | {
    "k8s.pod.name": ("K8S_POD_NAME", "OTEL_RESOURCE_ATTRIBUTES_POD_NAME"),
    "k8s.pod.uid": ("K8S_POD_UID", "OTEL_RESOURCE_ATTRIBUTES_POD_UID"),
    "k8s.node.name": ("K8S_NODE_NAME", "OTEL_RESOURCE_ATTRIBUTES_NODE_NAME"),
    "k8s.namespace.name": ("K8S_NAMESPACE_NAME", "K8S_NAMESPACE"),
}
_VARIABLES_INSIDE: Final = {
    "k8s.pod.name": ("POD_NAME",),
    "k8s.pod.uid": ("POD_UID",),
    "k8s.node.name": ("NODE_NAME",),
    "k8s.namespace.name": ("POD_NAMESPACE",),
}
_IN_CLUSTER: Final = "KUBERNETES_SERVICE_HOST"
"""Kubernetes sets it in every container."""

KUBERNETES_VARIABLES: Final = frozenset(
    name for table in (_VARIABLES, _VARIABLES_INSIDE) for names in table.values() for name in names
)
"""Every variable that is read."""


def in_kubernetes() -> bool:
    """Whether this process runs in a pod."""
    return bool(os.environ.get(_IN_CLUSTER))


def kubernetes_names() -> dict[str, str]:
    """The attributes `k8s.…` that variables of the environment name; blank ones are left out."""
    tables = (_VARIABLES, _VARIABLES_INSIDE) if in_kubernetes() else (_VARIABLES,)
    found: dict[str, str] = {}
    for table in tables:
        for attribute, names in table.items():
            values = (os.environ.get(name, "").strip() for name in names)
            if value := next(filter(None, values), ""):
                found.setdefault(attribute, value)
    return found
