"""What `docker compose up` would start, as far as a machine without Docker can tell: files, mounts, configurations."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.collector import CONFIG, validate
from tests.integration.prometheus_server import promtool

pytestmark = pytest.mark.integration

COMPOSE: dict[str, Any] = yaml.safe_load((CONFIG / "docker-compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILES = {"collector": CONFIG / "Dockerfile", "demo": CONFIG / "demo.Dockerfile"}


def mounts(service: str) -> list[tuple[str, str]]:
    return [
        (source, target) for source, target, *_ in (text.split(":") for text in SERVICES[service].get("volumes", []))
    ]


def test_every_mounted_path_exists() -> None:
    for service in SERVICES:
        for source, _ in mounts(service):
            assert (CONFIG / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], source


def test_every_port_is_published_on_this_host_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert {"127.0.0.1:3000:3000", "127.0.0.1:4317:4317", "127.0.0.1:4318:4318", "127.0.0.1:8000:8000"} <= set(ports)
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_images_have_plain_names_and_a_version() -> None:
    images = [service["image"] for service in SERVICES.values() if "image" in service]
    for dockerfile in DOCKERFILES.values():
        images += re.findall(r"^FROM (\S+)", dockerfile.read_text(), re.MULTILINE)
    for image in images:
        assert re.fullmatch(r"[a-z]+(?:/[a-z]+)?:v?\d[\w.-]*", image), image


def test_the_collector_starts_with_what_is_mounted_and_set() -> None:
    collector = SERVICES["collector"]
    targets = {target for _, target in mounts("collector")}
    files = [part for part in collector["command"] if part != "--config"]
    assert {f"/etc/otelcol/{name}" for name in files} <= targets
    done = validate([name.removesuffix(".yaml") for name in files], **collector["environment"])
    assert done.returncode == 0, done.stderr


def test_those_that_are_asked_are_there() -> None:
    asked = [*SERVICES["collector"]["environment"].values(), *SERVICES["demo"]["environment"].values()]
    sources = yaml.safe_load((CONFIG / "grafana/provisioning/datasources/datasources.yaml").read_text())["datasources"]
    asked += [
        source["url"].replace("$HEALTH_URL", SERVICES["grafana"]["environment"]["HEALTH_URL"]) for source in sources
    ]
    hosts = {host for text in asked for host in re.findall(r"^(?:http|mongodb)://(\w+):\d+", str(text))}
    assert hosts == {"collector", "mongodb", "tempo", "prometheus", "loki", "demo"}
    assert hosts <= set(SERVICES)
    wanted = {name for service in SERVICES.values() for name in service.get("depends_on", [])}
    assert wanted <= set(SERVICES)


def test_dashboards_are_looked_for_where_they_are_mounted() -> None:
    providers = yaml.safe_load((CONFIG / "grafana/provisioning/dashboards/dashboards.yaml").read_text())["providers"]
    assert {provider["options"]["path"] for provider in providers} <= {target for _, target in mounts("grafana")}


def test_every_configuration_of_the_other_parts_is_mounted_and_read() -> None:
    for service, name in (("tempo", "tempo.yaml"), ("loki", "loki.yaml"), ("prometheus", "prometheus.yaml")):
        assert yaml.safe_load((CONFIG / service / name).read_text())
        assert any(name in part for part in SERVICES[service]["command"])


def test_prometheus_takes_its_configuration() -> None:
    done = promtool("check", "config", str(CONFIG / "prometheus" / "prometheus.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_images_are_built_from_what_is_there() -> None:
    version = re.search(r"^  version: (\S+)$", (CONFIG / "builder.yaml").read_text(), re.MULTILINE)
    assert version is not None
    assert f"cmd/builder@v{version[1]} " in DOCKERFILES["collector"].read_text()
    output = yaml.safe_load((CONFIG / "builder.yaml").read_text())["dist"]["output_path"]
    assert f"COPY --from=build /build/{Path(output)}/otelcol" in DOCKERFILES["collector"].read_text()
    ignored = (CONFIG / "demo.Dockerfile.dockerignore").read_text().split()
    for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILES["demo"].read_text(), re.MULTILINE):
        for source in line.split():
            assert (CONFIG.parent / source).exists(), source
            assert f"!{source}" in ignored, source
