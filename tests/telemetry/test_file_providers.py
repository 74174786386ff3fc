"""What a configuration file describes is what leaves: real services in processes of their own, a real receiver."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.configuration.models import AttributeNameValue
from opentelemetry.configuration.models import Resource as ResourceModel

from otel_monitoring.telemetry.file_providers import described_resource
from tests.otlp_sink import HttpSink

pytestmark = pytest.mark.slow

FILE = """
file_format: "1.0"
resource:
  attributes:
    - {name: service.name, value: from-file}
    - {name: team, value: "${TEAM}"}
propagator: {composite: [{tracecontext: }]}
tracer_provider:
  processors:
    - batch: {schedule_delay: 3600000, exporter: {otlp_http: {endpoint: "${SINK}/v1/traces", compression: none}}}
meter_provider:
  readers:
    - periodic: {interval: 3600000, exporter: {otlp_http: {endpoint: "${SINK}/v1/metrics"}}}
logger_provider:
  processors:
    - batch:
        schedule_delay: 3600000
        exporter: {otlp_http: {endpoint: "${SINK}/v1/logs", headers: [{name: key, value: of-file}]}}
"""
REQUESTS = """
    await service.start()
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for path in ("/orders", "/orders", "/broken"):
            await client.get(path)
        result["metrics"] = (await client.get("/api/health/metrics")).json()
        await asyncio.to_thread(lambda: [flush() for flush in service._parts.telemetry.flushes()])
        result["telemetry"] = (await client.get("/api/health/diagnostics")).json()["telemetry"]
    await service.stop()
    result["summary"] = service._parts.telemetry.export_summary
"""


def serve(folder: Path, file: str, body: str = REQUESTS, *, before: str = "", **variables: str) -> dict[str, Any]:
    """Serve requests in a process of its own, which fills `result`; with what it logged as `stderr`."""
    (folder / "otel.yaml").write_text(file)
    script = f"""
import asyncio, json, logging, os
from otel_monitoring import MonitoringService
from fastapi import FastAPI
import httpx
from opentelemetry import propagate, trace

app = FastAPI(title="title", version="7")
result = {{}}

@app.get("/orders")
def orders():
    logging.getLogger("app").warning("an order")
    return {{}}

@app.get("/broken")
def broken():
    raise RuntimeError("password=hunter2hunter2")

service = MonitoringService(None, store="memory", access="open").instrument(app)

{before}

async def main():
{textwrap.indent(textwrap.dedent(body), "    ")}
asyncio.run(main())
print(json.dumps(result))
"""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    environment = {**inherited, "OTEL_CONFIG_FILE": str(folder / "otel.yaml"), "TEAM": "checkout", **variables}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout.splitlines()[-1]), "stderr": done.stderr}


def test_what_the_file_says_leaves_and_the_health_endpoints_keep_their_figures(tmp_path: Path) -> None:
    with HttpSink() as sink:
        ignored = {"OTEL_TRACES_SAMPLER": "always_off", "OTEL_EXPORTER_OTLP_HEADERS": "key=of-variable"}
        found = serve(tmp_path, FILE, SINK=sink.endpoint, OTEL_SERVICE_NAME="from-variable", **ignored)
        resources = list(sink.resources())
        headers = {request.signal: request.headers for request in sink.requests}
        spans, records = [span.name for span in sink.spans()], [one.body.string_value for one in sink.records()]
        everything = str(sink.requests)
    assert (found["metrics"]["requests_recorded"], found["metrics"]["error_count"]) == (3, 1)
    assert sorted(spans) == ["GET /broken", "GET /orders", "GET /orders"]
    assert records.count("an order") == 2
    assert {one["service.name"] for one in resources} == {"from-file"}
    assert {one["team"] for one in resources} == {"checkout"}
    assert {one["service.version"] for one in resources} == {"7"}
    assert len({one["service.instance.id"] for one in resources}) == 1
    assert not any("host.name" in one for one in resources), "the file names no detectors"
    assert "content-encoding" not in headers["traces"]
    assert headers["logs"]["key"] == "of-file"
    assert "key" not in headers["traces"]
    assert "hunter2" not in everything
    for signal in ("traces", "metrics", "logs"):
        block = found["telemetry"][signal]
        assert (block["provider"], block["endpoint"]) == ("file", f"{sink.endpoint}/v1/{signal}")
        assert block["exported"] > 0
        assert (block["failures"], block["dropped"]) == (0, 0)
    assert found["summary"] == "exporting traces, metrics, logs to where OTEL_CONFIG_FILE says"


def test_a_signal_that_the_file_does_not_name_does_not_leave(tmp_path: Path) -> None:
    with HttpSink() as sink:
        file = FILE[: FILE.index("meter_provider")]
        found = serve(tmp_path, file, SINK=sink.endpoint, OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint)
        signals = {request.signal for request in sink.requests}
    assert signals == {"traces"}
    assert [block["provider"] for block in found["telemetry"].values()] == ["file", "own", "none"]
    assert found["metrics"]["requests_recorded"] == 3


def test_samplers_limits_and_propagators_are_those_of_the_file(tmp_path: Path) -> None:
    file = f"""{FILE[: FILE.index("propagator")]}
attribute_limits: {{attribute_value_length_limit: 3}}
tracer_provider:
  sampler: {{parent_based: {{root: {{always_off: }}}}}}
  processors:
    - simple: {{exporter: {{otlp_http: {{endpoint: "${{SINK}}/v1/traces"}}}}}}
"""
    body = """
    result["fields"] = sorted(propagate.get_global_textmap().fields)
    tracer = trace.get_tracer("test")
    parent = trace.SpanContext(1, 2, True, trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(parent)):
        tracer.start_span("sampled", attributes={"key": "value"}).end()
    tracer.start_span("not sampled").end()
    """
    with HttpSink() as sink:
        found = serve(tmp_path, file, body, SINK=sink.endpoint, OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="0")
        (span,) = sink.spans()
    assert span.name == "sampled"
    assert span.attributes[0].value.string_value == "val"
    assert found["fields"] == []


def test_failed_exports_are_counted(tmp_path: Path) -> None:
    with HttpSink("400") as sink:
        found = serve(tmp_path, FILE, SINK=sink.endpoint)
    for block in found["telemetry"].values():
        assert block["failures"] > 0
        assert "400" in block["last_error"]


def test_what_is_not_installed_leaves_the_other_signals(tmp_path: Path) -> None:
    broken = FILE.replace("batch: {schedule_delay: 3600000, exporter: {otlp_http:", "batch: {exporter: {nimbus:", 1)
    with HttpSink() as sink:
        found = serve(tmp_path, broken.replace(", compression: none", ""), SINK=sink.endpoint)
        signals = {request.signal for request in sink.requests}
    assert signals == {"metrics", "logs"}
    assert (
        found["stderr"].count("OTEL_CONFIG_FILE: tracer_provider: ConfigurationError: Plugin 'nimbus' not found") == 1
    )
    assert "traces are not exported" in found["stderr"]


def test_the_services_of_a_process_share_what_the_file_describes(tmp_path: Path) -> None:
    body = """
    other = FastAPI(title="other")

    @other.get("/other")
    def answer():
        return {}

    second = MonitoringService(None, store="memory", access="open").instrument(other)
    for one, path, monitored in ((app, "/orders", service), (other, "/other", second)):
        await monitored.start()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(one), base_url="http://t") as client:
            await client.get(path)
    await service.stop()
    await second.stop()
    """
    with HttpSink() as sink:
        serve(tmp_path, FILE, body, SINK=sink.endpoint)
        spans = sorted(span.name for span in sink.spans())
    assert spans == ["GET /orders", "GET /other"]


def test_a_forked_worker_exports_with_an_instance_id_of_its_own(tmp_path: Path) -> None:
    body = f"""{REQUESTS}
    if child == 0:
        os._exit(0)
    result["child"] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    """
    with HttpSink() as sink:
        found = serve(tmp_path, FILE, body, before="child = os.fork()", SINK=sink.endpoint)
        instances = {one["service.instance.id"] for one in sink.resources()}
        spans = [span.name for span in sink.spans()]
    assert found["child"] == 0
    assert len(instances) == 2
    assert len(spans) == 6


def test_disabled_means_that_nothing_is_measured(tmp_path: Path) -> None:
    with HttpSink() as sink:
        found = serve(tmp_path, FILE + "disabled: true\n", SINK=sink.endpoint)
        assert sink.requests == []
    assert {block["provider"] for block in found["telemetry"].values()} == {"none"}
    assert found["summary"] == "OTEL_CONFIG_FILE says disabled: nothing is measured or exported"


@pytest.mark.parametrize("value", ["", None])
def test_a_name_that_is_a_variable_without_a_value_is_completed(value: str | None) -> None:
    attributes = [] if value is None else [AttributeNameValue("service.name", value)]
    found = described_resource(ResourceModel(attributes=attributes), {"service.name": "title"})
    assert found.attributes["service.name"] == "title"
