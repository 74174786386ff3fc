"""Each variable of OpenTelemetry's specification that is honoured has its effect on what leaves a real process."""

import contextlib
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.integration.certificates import authority
from tests.otlp_sink import GrpcSink, HttpSink, Sink
from tests.pages import ROOT, names, page, rows

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SPECIFICATION = {
    line
    for line in (ROOT / "tests/corpus/specification_variables.txt").read_text().splitlines()
    if not line.startswith("#")
}
SERVICE = """
import asyncio, json, logging, sys, threading

waits, wait = {}, threading.Event.wait

def noted(event, timeout=None):
    waits.setdefault(threading.current_thread().name, set()).add(timeout)
    return wait(event, timeout)

threading.Event.wait = noted

from otel_monitoring import MonitoringService
from fastapi import FastAPI
import httpx
from opentelemetry import metrics, propagate, trace

app = FastAPI(title="orders")
service = MonitoringService(None, store="memory", access="open").instrument(app)

@app.get("/orders")
def orders():
    return {}

async def main():
    await service.start()
    metrics.get_meter("probe").create_observable_gauge(
        "probe.timeout", [lambda options: [metrics.Observation(options.timeout_millis)]]
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        await client.get("/orders")
        link = trace.Link(trace.SpanContext(1, 2, True), {"k1": 1, "k2": 2})
        attributes = {f"a{number}": "x" * 20 for number in range(4)}
        for _ in range(3):
            links = [link] * 3
            tracer = trace.get_tracer("probe")
            with tracer.start_as_current_span("probe", attributes=attributes, links=links) as span:
                for _ in range(3):
                    span.add_event("event", {"k1": 1, "k2": 2})
                logging.getLogger("probe").warning("probe", extra={"b1": "y" * 40, "b2": "y" * 40})
                metrics.get_meter("probe").create_histogram("probe.size").record(5)
        told = {
            "fields": sorted(propagate.get_global_textmap().fields),
            "level": logging.getLogger("opentelemetry").level,
            "waits": {name: [seconds for seconds in found if seconds] for name, found in waits.items()},
        }
        print("told " + json.dumps(told), flush=True)
        await asyncio.to_thread(sys.stdin.read)
    await asyncio.to_thread(lambda: [flush() for flush in service._parts.telemetry.flushes()])
    await service.stop()

asyncio.run(main())
"""


@dataclass
class Seen:
    """What left the process, and what it wrote."""

    sink: Sink
    told: dict[str, Any] = field(default_factory=dict)
    output: str = ""

    def spans(self) -> list[Any]:
        return [span for span in self.sink.spans() if span.name == "probe"]

    def records(self) -> list[Any]:
        return [record for record in self.sink.records() if record.body.string_value == "probe"]

    def size(self) -> Any:
        return next(metric for metric in reversed(self.sink.metrics()) if metric.name == "probe.size")

    def headers(self, signal: str) -> dict[str, str]:
        return next(request.headers for request in self.sink.requests if request.signal == signal)

    def signals(self) -> set[str]:
        return {request.signal for request in self.sink.requests}

    def point(self, name: str) -> int:
        metric = next(one for one in reversed(self.sink.metrics()) if one.name == name)
        return int(metric.sum.data_points[0].as_int)


def observe(sink: Sink, variables: dict[str, str], wait: Callable[[Sink], bool] | None = None) -> Seen:
    # These variables win over the exporter's certificate.
    own = ("OTEL_", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVICE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**inherited, **variables},
    )
    try:
        if wait is not None:
            sink.wait(wait)
        output, errors = process.communicate("", timeout=100)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    told: dict[str, Any] = next((json.loads(line[5:]) for line in output.splitlines() if line.startswith("told ")), {})
    return Seen(sink, told, output + errors)


Check = Callable[[Seen], object]


def everything(signal: str) -> Callable[[Sink], bool]:
    return lambda sink: bool(sink.of(signal))


def text_of(attributes: Any, name: str) -> str:
    return next(str(one.value.string_value) for one in attributes if one.key == name)


EFFECTS: dict[str, tuple[dict[str, str], Check]] = {
    "OTEL_SDK_DISABLED": ({"OTEL_SDK_DISABLED": "true"}, lambda seen: not seen.sink.requests),
    "OTEL_RESOURCE_ATTRIBUTES": (
        {"OTEL_RESOURCE_ATTRIBUTES": "team=checkout"},
        lambda seen: {one.get("team") for one in seen.sink.resources()} == {"checkout"},
    ),
    "OTEL_SERVICE_NAME": (
        {"OTEL_SERVICE_NAME": "mine"},
        lambda seen: {one["service.name"] for one in seen.sink.resources()} == {"mine"},
    ),
    "OTEL_LOG_LEVEL": ({"OTEL_LOG_LEVEL": "error"}, lambda seen: seen.told["level"] == 40),
    "OTEL_PROPAGATORS": (
        {"OTEL_PROPAGATORS": "tracecontext"},
        lambda seen: seen.told["fields"] == ["traceparent", "tracestate"],
    ),
    "OTEL_TRACES_SAMPLER": ({"OTEL_TRACES_SAMPLER": "always_off"}, lambda seen: "traces" not in seen.signals()),
    "OTEL_TRACES_SAMPLER_ARG": (
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"},
        lambda seen: "traces" not in seen.signals(),
    ),
    "OTEL_BSP_MAX_QUEUE_SIZE": (
        {"OTEL_BSP_MAX_QUEUE_SIZE": "600"},
        lambda seen: seen.point("otel.sdk.processor.span.queue.capacity") == 600,
    ),
    "OTEL_BLRP_MAX_QUEUE_SIZE": (
        {"OTEL_BLRP_MAX_QUEUE_SIZE": "600"},
        lambda seen: seen.point("otel.sdk.processor.log.queue.capacity") == 600,
    ),
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": (
        {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "1"},
        lambda seen: len(seen.sink.of("traces")) == len(seen.sink.spans()) > 3,
    ),
    "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": (
        {"OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "1"},
        lambda seen: len(seen.sink.of("logs")) == len(seen.sink.records()) >= 3,
    ),
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": (
        {"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "7"},
        lambda seen: text_of(seen.spans()[0].attributes, "a0") == "x" * 7,
    ),
    "OTEL_ATTRIBUTE_COUNT_LIMIT": (
        {"OTEL_ATTRIBUTE_COUNT_LIMIT": "2"},
        lambda seen: len(seen.spans()[0].attributes) == 2 and seen.spans()[0].dropped_attributes_count == 2,
    ),
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": (
        {"OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "6"},
        lambda seen: text_of(seen.spans()[0].attributes, "a0") == "x" * 6,
    ),
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": (
        {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "3"},
        lambda seen: len(seen.spans()[0].attributes) == 3,
    ),
    "OTEL_SPAN_EVENT_COUNT_LIMIT": (
        {"OTEL_SPAN_EVENT_COUNT_LIMIT": "1"},
        lambda seen: len(seen.spans()[0].events) == 1,
    ),
    "OTEL_SPAN_LINK_COUNT_LIMIT": ({"OTEL_SPAN_LINK_COUNT_LIMIT": "1"}, lambda seen: len(seen.spans()[0].links) == 1),
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": (
        {"OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": "1"},
        lambda seen: len(seen.spans()[0].events[0].attributes) == 1,
    ),
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": (
        {"OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": "1"},
        lambda seen: len(seen.spans()[0].links[0].attributes) == 1,
    ),
    "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT": (
        {"OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT": "9"},
        lambda seen: text_of(seen.records()[0].attributes, "b1") == "y" * 9,
    ),
    "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT": (
        {"OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT": "1"},
        lambda seen: len(seen.records()[0].attributes) == 1,
    ),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ({}, lambda seen: seen.signals() == {"traces", "metrics", "logs"}),
    "OTEL_EXPORTER_OTLP_HEADERS": (
        {"OTEL_EXPORTER_OTLP_HEADERS": "key=a%20b"},
        lambda seen: {request.headers["key"] for request in seen.sink.requests} == {"a b"},
    ),
    "OTEL_EXPORTER_OTLP_COMPRESSION": (
        {"OTEL_EXPORTER_OTLP_COMPRESSION": "none"},
        lambda seen: not any("content-encoding" in request.headers for request in seen.sink.requests),
    ),
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": (
        {"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta"},
        lambda seen: seen.size().histogram.aggregation_temporality == 1,
    ),
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": (
        {"OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "base2_exponential_bucket_histogram"},
        lambda seen: seen.size().WhichOneof("data") == "exponential_histogram",
    ),
    "OTEL_TRACES_EXPORTER": (
        {"OTEL_TRACES_EXPORTER": "console,otlp"},
        lambda seen: '"name": "probe"' in seen.output and seen.spans(),
    ),
    "OTEL_METRICS_EXPORTER": (
        {"OTEL_METRICS_EXPORTER": "console"},
        lambda seen: '"probe.size"' in seen.output and "metrics" not in seen.signals(),
    ),
    "OTEL_LOGS_EXPORTER": (
        {"OTEL_LOGS_EXPORTER": "console"},
        lambda seen: '"body": "probe"' in seen.output and "logs" not in seen.signals(),
    ),
    "OTEL_METRICS_EXEMPLAR_FILTER": (
        {"OTEL_METRICS_EXEMPLAR_FILTER": "Always_Off"},
        lambda seen: not seen.size().histogram.data_points[0].exemplars,
    ),
}


INVALID = {
    "OTEL_TRACES_SAMPLER": "nosuch",
    "OTEL_TRACES_SAMPLER_ARG": "2.5",
    "OTEL_PROPAGATORS": " , ",
    "OTEL_TRACES_EXPORTER": "nosuch",
    "OTEL_METRICS_EXPORTER": "otlp/stdout",
    "OTEL_LOGS_EXPORTER": "otlp,nosuch",
    "OTEL_RESOURCE_ATTRIBUTES": "alone,=nameless,team=checkout",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "5000",
    "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "5000",
    "OTEL_BSP_SCHEDULE_DELAY": "soon",
    "OTEL_SPAN_LINK_COUNT_LIMIT": "-1",
    "OTEL_METRICS_EXEMPLAR_FILTER": "sometimes",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
    "OTEL_EXPORTER_OTLP_COMPRESSION": "brotli",
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "sigma",
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "pie",
    "OTEL_METRIC_EXPORT_INTERVAL": "-1",
    "OTEL_LOG_LEVEL": "loud",
    "OTEL_SDK_DISABLED": "yes",
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "nosuch",
}


@pytest.mark.parametrize("variable", INVALID)
def test_a_value_that_cannot_work_is_said_once_and_everything_leaves(variable: str) -> None:
    sampler = {"OTEL_TRACES_SAMPLER": "traceidratio"} if variable == "OTEL_TRACES_SAMPLER_ARG" else {}
    with HttpSink() as sink:
        own = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint, **sampler, variable: INVALID[variable]}
        seen = observe(sink, own)
    assert seen.signals() == {"traces", "metrics", "logs"}
    said = [line for line in seen.output.splitlines() if not line.startswith("told ") and line != "probe"]
    assert len(said) == 1
    assert variable in said[0]


def own_header(signal: str) -> Check:
    return lambda seen: {one.signal for one in seen.sink.requests if one.headers.get("key") == "own"} == {signal}


def own_compression(signal: str) -> Check:
    return lambda seen: seen.headers(signal)["content-encoding"] == "deflate"


for _signal in ("traces", "metrics", "logs"):
    _own = f"OTEL_EXPORTER_OTLP_{_signal.upper()}_"
    EFFECTS[f"{_own}HEADERS"] = {f"{_own}HEADERS": "key=own"}, own_header(_signal)
    EFFECTS[f"{_own}COMPRESSION"] = {f"{_own}COMPRESSION": "deflate"}, own_compression(_signal)


@pytest.mark.parametrize("variable", EFFECTS)
def test_a_variable_has_its_effect(variable: str) -> None:
    variables, check = EFFECTS[variable]
    with HttpSink() as sink:
        seen = observe(sink, {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint, **variables})
    assert check(seen), seen.output


WAITS = {
    "OTEL_BSP_SCHEDULE_DELAY": "OtelBatchSpanRecordProcessor",
    "OTEL_BLRP_SCHEDULE_DELAY": "OtelBatchLogRecordProcessor",
    "OTEL_METRIC_EXPORT_INTERVAL": "OtelPeriodicExportingMetricReader",
}


@pytest.mark.parametrize("variable", WAITS)
def test_exports_wait_for_their_time(variable: str) -> None:
    with HttpSink() as sink:
        seen = observe(sink, {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint, variable: "3456000"})
    assert {name for name, seconds in seen.told["waits"].items() if 3456.0 in seconds} == {WAITS[variable]}


@pytest.mark.parametrize("variable", WAITS)
def test_exports_leave_at_their_time(variable: str) -> None:
    signal = {"BSP": "traces", "BLRP": "logs", "METRIC": "metrics"}[variable.split("_")[1]]
    with HttpSink() as sink:
        observe(sink, {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint, variable: "50"}, everything(signal))


def test_a_collection_has_its_time() -> None:
    def in_time(sink: Sink) -> bool:
        told = [one.gauge.data_points[0].as_double for one in sink.metrics() if one.name == "probe.timeout"]
        return any(0 < milliseconds <= 700 for milliseconds in told)

    with HttpSink() as sink:
        variables = {"OTEL_METRIC_EXPORT_INTERVAL": "50", "OTEL_METRIC_EXPORT_TIMEOUT": "700"}
        observe(sink, {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint, **variables}, in_time)


OWN_ENDPOINTS = {f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT": signal.lower() for signal in ("TRACES", "METRICS", "LOGS")}


@pytest.mark.parametrize("variable", OWN_ENDPOINTS)
def test_one_signal_has_its_own_endpoint(variable: str) -> None:
    with HttpSink() as sink:
        observe(sink, {variable: f"{sink.endpoint}/own/{OWN_ENDPOINTS[variable]}"})
        assert {request.path for request in sink.requests} == {f"/own/{OWN_ENDPOINTS[variable]}"}


PROTOCOLS = {
    "OTEL_EXPORTER_OTLP_PROTOCOL": {"traces", "metrics", "logs"},
    **{f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL": {signal} for signal in ("traces", "metrics", "logs")},
}


@pytest.mark.parametrize("variable", PROTOCOLS)
def test_a_protocol_is_spoken_and_insecure_needs_no_scheme(variable: str) -> None:
    own = variable.removesuffix("PROTOCOL")
    with GrpcSink() as sink:
        endpoint = sink.endpoint.removeprefix("http://")
        seen = observe(sink, {variable: "grpc", f"{own}ENDPOINT": endpoint, f"{own}INSECURE": "true"})
    assert seen.signals() == PROTOCOLS[variable]


@pytest.mark.parametrize("variable", [name.replace("PROTOCOL", "TIMEOUT") for name in PROTOCOLS])
def test_an_export_that_hangs_is_given_up(variable: str) -> None:
    own = variable.removesuffix("TIMEOUT")
    with HttpSink("hang") as sink:
        endpoint = sink.endpoint if own == "OTEL_EXPORTER_OTLP_" else f"{sink.endpoint}/v1/{own.split('_')[3].lower()}"
        variables = {f"{own}ENDPOINT": endpoint, variable: "0.2", "OTEL_BLRP_SCHEDULE_DELAY": "100"}
        seen = observe(sink, variables)
    assert "read timeout=0." in seen.output or "timed out" in seen.output or "timeout" in seen.output


@contextlib.contextmanager
def mutual_tls(folder: Path) -> Iterator[HttpSink]:
    """A receiver that takes nothing without a client's certificate."""
    with HttpSink() as sink:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca.pem"))
        context.load_cert_chain(folder / "server.pem", folder / "server.key")
        context.verify_mode = ssl.CERT_REQUIRED
        sink._server.socket = context.wrap_socket(sink._server.socket, server_side=True)
        sink.endpoint = sink.endpoint.replace("http://", "https://")
        yield sink


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return authority(tmp_path_factory.mktemp("certificates"))


TLS = {
    "OTEL_EXPORTER_OTLP_": {"traces", "metrics", "logs"},
    **{f"OTEL_EXPORTER_OTLP_{signal.upper()}_": {signal} for signal in ("traces", "metrics", "logs")},
}
FILES = {"CERTIFICATE": "ca.pem", "CLIENT_KEY": "client.key", "CLIENT_CERTIFICATE": "client.pem"}


FILE_KEYS = {"ca_file": "CERTIFICATE", "key_file": "CLIENT_KEY", "cert_file": "CLIENT_CERTIFICATE"}


@pytest.mark.parametrize("prefix", TLS)
def test_a_client_shows_its_certificate(prefix: str, certificates: Path) -> None:
    files = {f"{prefix}{name}": str(certificates / file) for name, file in FILES.items()}
    others = {"traces", "metrics", "logs"} - TLS[prefix]
    off = {f"OTEL_{signal.upper()}_EXPORTER": "none" for signal in others}
    with mutual_tls(certificates) as sink:
        seen = observe(sink, {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint, **off, **files})
    assert seen.signals() == TLS[prefix], seen.output


def test_without_a_certificate_nothing_is_taken(certificates: Path) -> None:
    only = {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    trusted = {"OTEL_EXPORTER_OTLP_CERTIFICATE": str(certificates / "ca.pem")}
    with mutual_tls(certificates) as sink:
        seen = observe(sink, {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint, **only, **trusted})
    assert seen.signals() == set()


SECTIONS = """
file_format: "1.0"
tracer_provider: {processors: [{batch: {exporter: %s}}]}
meter_provider: {readers: [{periodic: {exporter: %s}}]}
logger_provider: {processors: [{batch: {exporter: %s}}]}
"""


def file_of(folder: Path, exporters: list[str]) -> dict[str, str]:
    (folder / "otel.yaml").write_text(SECTIONS % tuple(exporters))
    return {"OTEL_CONFIG_FILE": str(folder / "otel.yaml")}


def test_a_client_shows_the_certificate_of_its_configuration_file(certificates: Path, tmp_path: Path) -> None:
    tls = ", ".join(f"{key}: {certificates / FILES[FILE_KEYS[key]]}" for key in FILE_KEYS)
    with mutual_tls(certificates) as sink:
        exporters = [
            f"{{otlp_http: {{endpoint: '{sink.endpoint}/v1/{signal}', tls: {{{tls}}}}}}}"
            for signal in ("traces", "metrics", "logs")
        ]
        seen = observe(sink, file_of(tmp_path, exporters))
    assert seen.signals() == {"traces", "metrics", "logs"}, seen.output


def test_a_configuration_file_may_do_without_encryption(tmp_path: Path) -> None:
    with GrpcSink() as sink:
        endpoint = sink.endpoint.removeprefix("http://")
        exporter = f"{{otlp_grpc: {{endpoint: '{endpoint}', tls: {{insecure: true}}}}}}"
        seen = observe(sink, file_of(tmp_path, [exporter] * 3))
    assert seen.signals() == {"traces", "metrics", "logs"}, seen.output


def test_every_variable_of_the_specification_is_in_the_table_and_each_that_is_honoured_is_tried() -> None:
    table = rows(page("docs/configuration.md").partition("<!-- specification -->")[2])
    listed = {name: honoured for cell, honoured, _ in table for name in names(cell)}
    assert listed.keys() == SPECIFICATION
    tried = {
        *(*EFFECTS, *WAITS, "OTEL_METRIC_EXPORT_TIMEOUT", *OWN_ENDPOINTS, *PROTOCOLS),
        *(name.replace("PROTOCOL", other) for name in PROTOCOLS for other in ("TIMEOUT", "INSECURE")),
        *(f"{prefix}{name}" for prefix in TLS for name in FILES),
    }
    elsewhere = {"OTEL_CONFIG_FILE"}  # tests/telemetry/test_file_providers.py
    assert {name for name, honoured in listed.items() if honoured == "yes"} == tried | elsewhere
