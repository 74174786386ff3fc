"""The manifests of collector-config/kubernetes/: what the API takes, the Collector's own files, paths that exist."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_monitoring.alerts.rules.defaults import default_rules
from otel_monitoring.config.settings import Thresholds
from otel_monitoring.export import prometheus
from tests.conftest import unavailable
from tests.integration import otlp
from tests.integration.builds import BuildError
from tests.integration.collector import CONFIG, VARIABLES, collecting, validate
from tests.integration.kubernetes import CONFIG_MAP, config_map, containers, faults, mounted, objects, schema
from tests.integration.processes import serving
from tests.otlp_sink import HttpSink

pytestmark = pytest.mark.integration

OBJECTS = {f"{item['kind']} {item['metadata']['name']}": item for item in objects()}
SERVICE = """
from fastapi import FastAPI
from otel_monitoring import MonitoringService

app = FastAPI(title="orders")
MonitoringService(None).instrument(app)
"""


def judged(item: dict[str, Any]) -> list[str]:
    """What the API would refuse."""
    try:
        return list(faults(item, *schema(item)))
    except BuildError as error:
        unavailable(f"the schemas of Kubernetes: {error} (python -m tests.integration.builds all)")


def container(name: str) -> dict[str, Any]:
    found: dict[str, Any] = OBJECTS[name]["spec"]["template"]["spec"]["containers"][0]
    return found


def test_there_is_what_the_readme_says() -> None:
    assert set(OBJECTS) == {
        *("ConfigMap otelcol-config", "DaemonSet otelcol-agent", "Deployment otelcol-gateway"),
        *("Service otelcol-gateway", "Deployment earlybird", "Service earlybird", "PrometheusRule otel-monitoring"),
    }


@pytest.mark.parametrize("name", OBJECTS)
def test_the_api_takes_it(name: str) -> None:
    assert judged(OBJECTS[name]) == []


@pytest.mark.parametrize(
    ("name", "path", "value", "fault"),
    [
        ("Deployment earlybird", "spec.replicas", "two", "str is no integer"),
        ("Deployment earlybird", "spec.selector", None, "selector: missing"),
        ("Deployment earlybird", "spec.template.spec.containers.0.livenessProbe.http", {}, "http: unknown"),
        ("Deployment earlybird", "spec.template.spec.containers.0.env.0.name", 1, "int is no string"),
        ("Deployment earlybird", "spec.template.spec.containers.0.ports.0.containerPort", [], "list is no integer"),
        ("Service earlybird", "spec.ports.0.targetPort", {}, "none of the choices"),
        ("PrometheusRule otel-monitoring", "spec.groups.0.name", None, "name: missing"),
        ("PrometheusRule otel-monitoring", "spec.groups.0.rules.0.expression", "1", "expression: unknown"),
    ],
)
def test_the_api_would_refuse_a_mistake(name: str, path: str, value: Any, fault: str) -> None:
    item: Any = copy.deepcopy(OBJECTS[name])
    *parents, last = path.split(".")
    place = item
    for part in parents:
        place = place[int(part)] if part.isdecimal() else place[part]
    place.pop(last, None)
    if value is not None:
        place[last] = value
    assert any(found.endswith(fault) for found in judged(item)), judged(item)


def test_the_config_map_has_the_files_of_this_repository() -> None:
    assert CONFIG_MAP.read_text() == config_map(), "run: python -m tests.integration.kubernetes"
    data = OBJECTS["ConfigMap otelcol-config"]["data"]
    assert data == {name: (CONFIG / name).read_text() for name in mounted()}


def environment(of: dict[str, Any]) -> dict[str, str]:
    """The variables of a container, a node's and a pod's made up, references resolved as the kubelet does."""
    found: dict[str, str] = {}
    for variable in of["env"]:
        text = variable.get("value", "made-up")
        found[variable["name"]] = re.sub(r"\$\((\w+)\)", lambda match: found[match[1]], text)
    return found


@pytest.mark.parametrize("name", ["DaemonSet otelcol-agent", "Deployment otelcol-gateway"])
def test_the_collector_starts_with_what_a_pod_gives_it(name: str, tmp_path: Path) -> None:
    for file, text in OBJECTS["ConfigMap otelcol-config"]["data"].items():
        (tmp_path / file).write_text(text)
    of = container(name)
    files = [part.replace("/etc/otelcol", str(tmp_path)) for part in of["args"] if part != "--config"]
    assert {mount["mountPath"] for mount in of["volumeMounts"]} == {"/etc/otelcol", "/var/lib/otelcol"}
    secret = {"OTLP_ENDPOINT": VARIABLES["OTLP_ENDPOINT"]} if of.get("envFrom") else {}
    done = validate(files, OTELCOL_STORAGE_DIR=str(tmp_path / "queues"), **environment(of), **secret)
    assert done.returncode == 0, done.stderr


def test_the_collector_is_of_the_version_that_is_tested() -> None:
    version = yaml.safe_load((CONFIG / "builder.yaml").read_text())["dist"]["version"]
    images = {of["image"] for of in containers() if of["name"] == "otelcol"}
    assert images == {f"otel/opentelemetry-collector-contrib:{version}"}


def test_every_port_and_volume_that_is_named_exists() -> None:
    for item in OBJECTS.values():
        pod = item.get("spec", {}).get("template", {}).get("spec")
        for of in pod["containers"] if pod else []:
            ports = {port["name"] for port in of["ports"]}
            probes = [of[probe]["httpGet"]["port"] for probe in of if probe.endswith("Probe")]
            assert set(probes) <= ports
            assert {mount["name"] for mount in of["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    for name in ("otelcol-gateway", "earlybird"):
        ports = {port["name"] for port in container(f"Deployment {name}")["ports"]}
        service = OBJECTS[f"Service {name}"]["spec"]
        assert {port["targetPort"] for port in service["ports"]} <= ports
        labels = OBJECTS[f"Deployment {name}"]["spec"]["template"]["metadata"]["labels"]
        assert service["selector"] == labels
    gateways = OBJECTS["Service otelcol-gateway"]
    assert gateways["spec"]["clusterIP"] == "None"
    assert environment(container("DaemonSet otelcol-agent"))["GATEWAY_DNS_NAME"] == gateways["metadata"]["name"]


def test_the_probes_are_paths_of_a_service(tmp_path: Path) -> None:
    of = container("Deployment earlybird")
    paths = {probe: of[probe]["httpGet"]["path"] for probe in of if probe.endswith("Probe")}
    assert set(paths) == {"startupProbe", "livenessProbe", "readinessProbe"}
    with serving(tmp_path, SERVICE) as service:
        assert service.get(paths["livenessProbe"]).json()["status"] == "alive"
        assert service.get(paths["startupProbe"]).json()["status"] == "alive"
        assert service.get(paths["readinessProbe"]).json()["status"] == "ready"


def test_the_variables_of_the_pod_are_those_of_the_documentation() -> None:
    documented = set(re.findall(r"\bK8S_[A-Z_]+", (CONFIG.parent / "docs/configuration.md").read_text()))
    given = {name for name in environment(container("Deployment earlybird")) if name.startswith("K8S_")}
    assert given <= documented


def test_the_rules_are_those_of_prometheus() -> None:
    rules = yaml.safe_load(prometheus(default_rules(Thresholds())))
    assert OBJECTS["PrometheusRule otel-monitoring"]["spec"] == rules


def test_an_agent_finds_the_gateways_by_their_name(tmp_path: Path) -> None:
    for name in ("gateway", "agent"):
        (tmp_path / name).mkdir()
    with (
        HttpSink() as sink,
        collecting(tmp_path / "gateway", "base", "gateway", "backend-otlp", OTLP_ENDPOINT=sink.endpoint) as gateway,
        collecting(
            tmp_path / "agent",
            *("base", "agent", "agent-dns"),
            GATEWAY_DNS_NAME="localhost",
            GATEWAY_PORT=str(gateway.grpc),
            GATEWAY_INSECURE="true",
            OTEL_RESOURCE_ATTRIBUTES="host.name=node-1,k8s.node.name=node-1",
        ) as agent,
    ):
        agent.send("traces", otlp.traces(otlp.span()))
        sink.wait(lambda s: bool(s.spans()))
        assert next(sink.resources())["host.name"] == "node-1"
