"""Variables of the downward API, by the names that charts and operators use."""

import pytest

from otel_monitoring.config.kubernetes import KUBERNETES_VARIABLES, kubernetes_names


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*KUBERNETES_VARIABLES, "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)


def test_nothing_is_known_without_variables() -> None:
    assert kubernetes_names() == {}


@pytest.mark.parametrize(
    ("variable", "attribute"),
    [
        ("K8S_POD_NAME", "k8s.pod.name"),
        ("OTEL_RESOURCE_ATTRIBUTES_POD_NAME", "k8s.pod.name"),
        ("K8S_POD_UID", "k8s.pod.uid"),
        ("K8S_NAMESPACE_NAME", "k8s.namespace.name"),
        ("K8S_NAMESPACE", "k8s.namespace.name"),
        ("K8S_NODE_NAME", "k8s.node.name"),
        ("OTEL_RESOURCE_ATTRIBUTES_NODE_NAME", "k8s.node.name"),
        ("K8S_DEPLOYMENT_NAME", "k8s.deployment.name"),
        ("K8S_CONTAINER_NAME", "k8s.container.name"),
        ("K8S_CLUSTER_NAME", "k8s.cluster.name"),
        ("K8S_CRONJOB_NAME", "k8s.cronjob.name"),
    ],
)
def test_a_variable_names_an_attribute(variable: str, attribute: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, " one ")
    assert kubernetes_names() == {attribute: "one"}
    monkeypatch.setenv(variable, " ")
    assert kubernetes_names() == {}


def test_names_that_other_programs_use_count_in_a_cluster_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POD_NAME", "POD_UID", "POD_NAMESPACE", "NODE_NAME"):
        monkeypatch.setenv(name, name.lower())
    assert kubernetes_names() == {}
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("K8S_POD_NAME", "more exact")
    assert kubernetes_names() == {
        "k8s.pod.name": "more exact",
        "k8s.pod.uid": "pod_uid",
        "k8s.namespace.name": "pod_namespace",
        "k8s.node.name": "node_name",
    }
