"""Backends find the names they read: the table of collector-config/README.md, held against what each of them gets."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.integration import otlp
from tests.integration.collector import CONFIG, VARIABLES, collecting
from tests.otlp_sink import HttpSink

pytestmark = pytest.mark.integration

SERVER = {
    "http.request.method": "GET",
    "http.response.status_code": 200,
    "http.route": "/orders/{number}",
    "server.address": "shop.example.com",
    "server.port": 443,
}
COMMAND = {
    "db.system.name": "mongodb",
    "db.namespace": "shop",
    "db.collection.name": "orders",
    "db.operation.name": "find",
    "db.query.text": '{"find": "orders", "filter": {"number": 17}}',
    "server.address": "db.example.com",
    "server.port": 27017,
}
RESOURCE = {**otlp.RESOURCE, "service.instance.id": "one"}
MADE_OF = {
    "http.method": "http.request.method",
    "http.status_code": "http.response.status_code",
    "db.system": "db.system.name",
    "db.name": "db.namespace",
    "db.operation": "db.operation.name",
    "db.statement": "db.query.text",
    "net.peer.name": "server.address",
    "net.peer.port": "server.port",
    "deployment.environment": "deployment.environment.name",
}
"""By old name the stable one."""
ENDPOINTS = {
    "datadog": "DD_OTLP_ENDPOINT",
    "grafana-cloud": "GRAFANA_CLOUD_OTLP_ENDPOINT",
    "signoz": "SIGNOZ_ENDPOINT",
    "elastic": "ELASTIC_OTLP_ENDPOINT",
    "new-relic": "NEW_RELIC_OTLP_ENDPOINT",
    "dash0": "DASH0_ENDPOINT",
}


def wanted() -> list[tuple[str, str, bool]]:
    """Backend, name, and whether it is one of those that are made, for each name in the table."""
    rows = re.findall(r"^\| ([a-z0-9-]+) \| (.*?) \| .* \| .* \|$", (CONFIG / "README.md").read_text(), re.MULTILINE)
    return [
        (backend, name, made == "*")
        for backend, names in rows
        for made, name in re.findall(r"(\*?)`([\w.]+)`\*?", names)
    ]


@pytest.fixture(scope="module")
def sinks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, HttpSink]]:
    """By backend what arrived of one request with a command in it, and of a point and a record."""
    with ExitStack() as stack:
        sinks = {name: stack.enter_context(HttpSink()) for name in ENDPOINTS}
        endpoints = {ENDPOINTS[name]: sink.endpoint for name, sink in sinks.items()}
        files = ("base", "compat-legacy", "sampling", *(f"backend-{name}" for name in ENDPOINTS))
        variables = {**VARIABLES, **endpoints, "OTELCOL_DECISION_WAIT": "1s", "OTELCOL_SAMPLING_PERCENTAGE": "100"}
        folder = tmp_path_factory.mktemp("compat")
        collector = stack.enter_context(collecting(folder, *files, **variables))
        request = otlp.span(content=SERVER)
        command = otlp.span("find orders", COMMAND, trace=request.trace_id, kind=Span.SPAN_KIND_CLIENT)
        collector.send("traces", otlp.traces(request, command, resource=RESOURCE))
        collector.send("metrics", otlp.metrics(otlp.counter("orders", 1, 1), resource=RESOURCE))
        collector.send("logs", otlp.logs("stored", resource=RESOURCE))
        for sink in sinks.values():
            sink.wait(lambda s: {received.signal for received in s.requests} >= {"traces", "logs"})
        yield sinks


def received(sink: HttpSink) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The attributes of the resource, of the server's span and of the client's."""
    by_kind = {span.kind: otlp.read(span.attributes) for span in sink.spans()}
    resource = otlp.read(sink.of("traces")[0].resource_spans[0].resource.attributes)
    return resource, by_kind[Span.SPAN_KIND_SERVER], by_kind[Span.SPAN_KIND_CLIENT]


def test_the_table_is_about_the_backends_that_have_a_page_and_about_every_copy() -> None:
    assert {backend for backend, _, _ in wanted()} == set(ENDPOINTS)
    assert {name for _, name, made in wanted() if made} == set(MADE_OF)


@pytest.mark.parametrize(("backend", "name", "made"), wanted())
def test_a_backend_gets_what_it_reads(sinks: dict[str, HttpSink], backend: str, name: str, made: bool) -> None:
    found = [content for content in received(sinks[backend]) if name in content]
    assert found
    assert made == (name in MADE_OF)
    for content in found:
        assert not made or content[name] == content[MADE_OF[name]]


def test_the_stable_names_stay(sinks: dict[str, HttpSink]) -> None:
    resource, request, command = received(sinks["signoz"])
    assert RESOURCE.items() <= resource.items()
    assert SERVER.items() <= request.items()
    assert {**COMMAND, "db.query.text": '{"find": ?, "filter": {"number": ?}}'}.items() <= command.items()


def test_what_a_span_is_not_about_is_not_made_up(sinks: dict[str, HttpSink]) -> None:
    _, request, command = received(sinks["signoz"])
    assert set(request) - set(SERVER) == {"http.method", "http.status_code"}, "its own address is nobody's peer"
    assert not {name for name in command if name.startswith("http.")}


def test_every_signal_has_the_environment_under_both_names(sinks: dict[str, HttpSink]) -> None:
    sinks["signoz"].wait(lambda s: bool(s.metrics()))
    for resource in sinks["signoz"].resources():
        assert resource["deployment.environment"] == resource["deployment.environment.name"] == "test"


def test_a_name_that_is_there_already_keeps_its_value(tmp_path: Path) -> None:
    with (
        HttpSink() as sink,
        collecting(tmp_path, "base", "compat-legacy", "backend-otlp", OTLP_ENDPOINT=sink.endpoint) as collector,
    ):
        old = dict.fromkeys(MADE_OF, "?")  # the one value that redaction leaves everywhere
        span = otlp.span("find", {**SERVER, **COMMAND, **old}, kind=Span.SPAN_KIND_CLIENT)
        collector.send("traces", otlp.traces(span, resource={**RESOURCE, **old}))
        sink.wait(lambda s: bool(s.spans()))
        content = otlp.read(sink.spans()[0].attributes)
        assert {name: content[name] for name in old} == old
        assert next(sink.resources())["deployment.environment"] == "?"


def test_span_metrics_see_what_backends_see(tmp_path: Path) -> None:
    variables = {"OTELCOL_SPAN_METRICS_INTERVAL": "200ms"}
    files = ("base", "compat-legacy", "spanmetrics", "backend-otlp")
    with HttpSink() as sink, collecting(tmp_path, *files, OTLP_ENDPOINT=sink.endpoint, **variables) as collector:
        collector.send("traces", otlp.traces(otlp.span(content=SERVER)))
        sink.wait(lambda s: "traces.span.metrics.calls" in [metric.name for metric in s.metrics()])
        groups = [group for message in sink.of("metrics") for group in message.resource_metrics]
    assert {otlp.read(group.resource.attributes)["deployment.environment"] for group in groups} == {"test"}


def test_it_only_ever_inserts() -> None:
    processors = yaml.safe_load((CONFIG / "compat-legacy.yaml").read_text())["processors"]
    actions = [
        action for content in processors.values() for action in content.get("actions", content.get("attributes"))
    ]
    assert {action["key"]: action["from_attribute"] for action in actions} == MADE_OF
    assert {action["action"] for action in actions} == {"insert"}
