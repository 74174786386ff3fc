"""Providers: made or joined, whose resource, started per worker. What arrives where is in `integration/test_export`."""

import json
import logging
import logging.config
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from opentelemetry import _logs, propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_monitoring.config import Settings
from otel_monitoring.guard import fail_open
from otel_monitoring.metrics.reader import SnapshotReader
from otel_monitoring.telemetry.providers import Telemetry
from otel_monitoring.telemetry.service_resource import ServiceResource
from otel_monitoring.telemetry.span_pipeline import SpanSwitch
from tests.otlp_sink import TIMEOUT, HttpSink


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def make(name: str | None = "app-title", version: str | None = "0.1.0", **settings: Any) -> Telemetry:
    return Telemetry(Settings.load(**settings), service_name=name, service_version=version)


def in_a_process_of_its_own(body: str, **environment: str) -> dict[str, Any]:
    """Run `body`, which fills `result`: global providers can be set once in a process."""
    script = f"""
import json, logging, sys, threading
from opentelemetry import _logs, metrics, trace
from otel_monitoring.config import Settings
from otel_monitoring.metrics.reader import SnapshotReader
from otel_monitoring.telemetry.providers import Telemetry

def make(**settings):
    return Telemetry(Settings.load(**settings), service_name="orders", service_version="1")

result = {{}}
{textwrap.dedent(body)}
print(json.dumps(result))
"""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**inherited, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    result["stderr"] = done.stderr
    return result


def attributes(telemetry: Telemetry) -> dict[str, Any]:
    return dict(telemetry.resource.attributes)


def test_names_come_from_the_application_where_nobody_set_them() -> None:
    found = attributes(make())
    assert (found["service.name"], found["service.version"]) == ("app-title", "0.1.0")
    assert "deployment.environment.name" not in found
    assert found["telemetry.sdk.name"] == "opentelemetry"
    assert attributes(make(None, None))["service.name"] == "unknown_service"


def test_its_resource_costs_the_exporters_little() -> None:
    assert isinstance(make().resource, ServiceResource)


def test_the_environment_wins_over_the_application_and_settings_over_both(monkeypatch: pytest.MonkeyPatch) -> None:
    given = "service.name=from-attributes,service.version=7,deployment.environment.name=qa,team=a%20b"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", given)
    found = attributes(make())
    assert (found["service.name"], found["service.version"]) == ("from-attributes", "7")
    assert (found["deployment.environment.name"], found["team"]) == ("qa", "a b")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "from-name")
    found = attributes(make(service_version="8", environment="prod"))
    assert (found["service.name"], found["service.version"]) == ("from-name", "8")
    assert found["deployment.environment.name"] == "prod"


def test_where_it_runs_is_part_of_the_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    found = attributes(make(service_namespace="shop"))
    assert found["service.namespace"] == "shop"
    assert found["process.pid"] == os.getpid()
    assert {"host.name", "host.arch", "os.type", "os.description", "process.runtime.version"} <= found.keys()
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "host.name=given,process.pid=7,service.namespace=given")
    found = attributes(make())
    assert (found["host.name"], found["process.pid"], found["service.namespace"]) == ("given", "7", "given")


def test_a_given_instance_id_is_told_apart_by_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(str(attributes(make())["service.instance.id"])) == 36
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=pod-7")
    assert attributes(make())["service.instance.id"] == f"pod-7:{os.getpid()}"


def test_without_an_endpoint_there_are_no_spans_no_records_no_threads_and_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    before = threading.enumerate()
    handlers = list(logging.getLogger().handlers)
    telemetry = make()
    reader = SnapshotReader(0.0)
    telemetry.start(reader)
    assert (telemetry.tracing, telemetry.logging) == (False, False)
    assert isinstance(telemetry.tracer_provider, trace.NoOpTracerProvider)
    assert isinstance(telemetry.logger_provider, _logs.NoOpLoggerProvider)
    assert not set(threading.enumerate()) - set(before)  # one of an earlier test may end
    assert logging.getLogger().handlers == handlers
    assert telemetry.export_summary == "no OTLP endpoint: nothing is exported"

    telemetry.meter_provider.get_meter("test").create_counter("jobs").add(2)
    assert list(reader.take(1.0).sums.values()) == [2]
    state = telemetry.state(time.monotonic())
    assert [state[s]["provider"] for s in ("traces", "metrics", "logs")] == ["none", "own", "none"]
    assert all(state[s]["endpoint"] is None and state[s]["exported"] == 0 for s in state)
    telemetry.stop(TIMEOUT)


@pytest.mark.slow
def test_without_an_endpoint_no_exporter_is_imported_and_nothing_connects() -> None:
    result = in_a_process_of_its_own("""
        connections = []
        sys.addaudithook(lambda event, args: connections.append(event) if event.startswith("socket.connect") else None)
        telemetry = make()
        telemetry.make_global()
        telemetry.start(SnapshotReader(0.0))
        telemetry.stop(5)
        result["connections"] = connections
        result["modules"] = sorted(
            m for m in sys.modules if m.startswith("opentelemetry.exporter") or m in ("requests", "grpc")
        )
        result["global"] = [
            type(trace.get_tracer_provider()).__name__,
            metrics.get_meter_provider() is telemetry.meter_provider,
            type(_logs.get_logger_provider()).__name__,
        ]
    """)
    assert result["connections"] == []
    assert result["modules"] == []
    assert result["global"] == ["ProxyTracerProvider", True, "ProxyLoggerProvider"]


def test_it_is_said_where_things_go_without_credentials() -> None:
    with HttpSink() as sink:
        endpoint = sink.endpoint.replace("http://", "http://me:sesame@")
        telemetry = make(otlp_endpoint=endpoint, logs_exporter="none")
    assert telemetry.export_summary == f"exporting traces, metrics to {sink.endpoint} (http/protobuf)"


@pytest.mark.slow
def test_disabled_means_nothing_is_measured_and_everything_still_answers() -> None:
    result = in_a_process_of_its_own(
        """
        telemetry = make()
        reader = SnapshotReader(0.0)
        telemetry.start(reader)
        telemetry.meter_provider.get_meter("test").create_counter("jobs").add(1)
        telemetry.tracer_provider.get_tracer("test").start_span("work").end()
        result["sums"] = len(reader.take(1.0).sums)
        result["tracing"] = telemetry.tracing
        result["state"] = telemetry.state(0.0)
        telemetry.stop(5)
        """,
        OTEL_SDK_DISABLED="true",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
    )
    assert (result["sums"], result["tracing"]) == (0, False)
    assert {state["provider"] for state in result["state"].values()} == {"none"}
    assert result["stderr"] == ""


@pytest.mark.slow
def test_the_applications_own_providers_are_joined_and_outlive_us() -> None:
    with HttpSink() as sink:
        result = in_a_process_of_its_own(
            """
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import SimpleSpanProcessor
            from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

            theirs = InMemorySpanExporter()
            tracers = TracerProvider(resource=Resource({"service.name": "theirs"}), shutdown_on_exit=False)
            tracers.add_span_processor(SimpleSpanProcessor(theirs))
            trace.set_tracer_provider(tracers)
            meters = MeterProvider(shutdown_on_exit=False)
            metrics.set_meter_provider(meters)

            telemetry = make()
            result["joined"] = [telemetry.tracer_provider is tracers, telemetry.meter_provider is meters]
            result["tracing"] = telemetry.tracing
            result["resource"] = telemetry.resource.attributes["service.name"]
            for _ in range(2):
                reader = SnapshotReader(0.0)
                telemetry.start(reader)
                tracers.get_tracer("test").start_span("work").end()
                meters.get_meter("test").create_counter("jobs").add(2)
                sums = reader.take(1.0).sums.items()
                result["sums"] = [value for series, value in sums if series.name == "jobs"]
                logging.getLogger("app").warning("hello")
                telemetry.stop(5)
            tracers.get_tracer("test").start_span("afterwards").end()
            result["spans"] = [s.name for s in theirs.get_finished_spans()]
            result["providers"] = [s["provider"] for s in telemetry.state(0.0).values()]
            """,
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
        )
        resources = [r["service.name"] for r in sink.resources()]
    assert result["joined"] == [True, True]
    assert result["tracing"]
    assert result["resource"] == "theirs"
    assert result["sums"] == [2]
    assert result["spans"] == ["work", "work", "afterwards"]
    assert result["providers"] == ["application", "application", "own"]
    assert [r.signal for r in sink.requests] == ["logs", "logs"]  # they decided what the others export
    assert resources == ["theirs", "theirs"]


@pytest.mark.slow
def test_what_waits_in_a_joined_provider_is_sent_at_the_stop() -> None:
    result = in_a_process_of_its_own(
        """
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        theirs = InMemorySpanExporter()
        tracers = TracerProvider(shutdown_on_exit=False)
        tracers.add_span_processor(BatchSpanProcessor(theirs, schedule_delay_millis=3_600_000))
        trace.set_tracer_provider(tracers)
        telemetry = make()
        telemetry.start(SnapshotReader(0.0))
        tracers.get_tracer("test").start_span("work").end()
        result["before"] = len(theirs.get_finished_spans())
        telemetry.stop(5)
        result["after"] = len(theirs.get_finished_spans())
        """
    )
    assert (result["before"], result["after"]) == (0, 1)


@pytest.mark.slow
def test_the_first_services_providers_become_global_and_the_seconds_are_its_own() -> None:
    with HttpSink() as sink:
        result = in_a_process_of_its_own(
            """
            first = make()
            result["before"] = type(metrics.get_meter_provider()).__name__
            first.make_global()
            second = make()
            second.make_global()
            result["global"] = [
                trace.get_tracer_provider() is first.tracer_provider,
                metrics.get_meter_provider() is first.meter_provider,
                _logs.get_logger_provider() is first.logger_provider,
            ]
            result["shared"] = [
                first.tracer_provider is second.tracer_provider,
                first.meter_provider is second.meter_provider,
                first.logger_provider is second.logger_provider,
            ]
            first.start(SnapshotReader(0.0))
            second.start(SnapshotReader(0.0))
            first.tracer_provider.get_tracer("t").start_span("first").end()
            second.tracer_provider.get_tracer("t").start_span("second").end()
            first.stop(10)
            second.stop(10)
            """,
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
        )
        names = sorted(span.name for span in sink.spans())
    assert result["before"] == "_ProxyMeterProvider"
    assert result["global"] == [True, True, True]
    assert result["shared"] == [False, False, False]
    assert names == ["first", "second"]
    assert "Overriding" not in result["stderr"]


class Marks(SpanProcessor):
    def on_start(self, span: Span, parent_context: Any = None) -> None:
        span.set_attribute("marked", True)

    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError("a processor that fails")


def test_the_first_processors_of_a_switch_see_spans_first_and_may_fail() -> None:
    exporter, switch, provider = InMemorySpanExporter(), SpanSwitch([Marks()]), SdkTracerProvider()
    switch.target = SimpleSpanProcessor(exporter)
    provider.add_span_processor(switch)
    provider.get_tracer("test").start_span("work").end()
    (span,) = exporter.get_finished_spans()
    assert span.attributes == {"marked": True}
    assert fail_open.failures["span processing"] == 1


def test_flushing_the_provider_sends_what_waits() -> None:
    with HttpSink() as sink:
        telemetry = make(otlp_endpoint=sink.endpoint, metrics_exporter="none")
        telemetry.start(SnapshotReader(0.0))
        assert isinstance(telemetry.tracer_provider, SdkTracerProvider)
        telemetry.tracer_provider.get_tracer("test").start_span("work").end()
        assert telemetry.tracer_provider.force_flush()
        assert [span.name for span in sink.spans()] == ["work"]
        telemetry.stop(TIMEOUT)


def test_what_only_the_exporter_can_tell_is_said_and_leaves_the_other_signals(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER", "absent")
    with HttpSink() as sink:
        telemetry = make(otlp_endpoint=sink.endpoint, traces_exporter="otlp")
        telemetry.start(SnapshotReader(0.0))
        reason = "component 'absent' not found"
        [said] = [line for line in caplog.messages if "OTLP export of traces" in line]
        assert reason in said
        state = telemetry.state(0.0)
        assert reason in state["traces"]["last_error"]
        assert state["metrics"]["last_error"] is state["logs"]["last_error"] is None
        logging.getLogger("shop").warning("still exported")
        telemetry.stop(TIMEOUT)
        assert "still exported" in str(sink.records())


@pytest.fixture
def exporters_are_loaded_anew() -> Iterator[None]:
    """What is loaded meanwhile goes again: parts of two copies do not know each other's types."""
    kept = _exporters()
    for name in kept:
        del sys.modules[name]
    yield
    for name in _exporters():
        del sys.modules[name]
    sys.modules.update(kept)
    for name, module in kept.items():
        parent, _, attribute = name.rpartition(".")
        setattr(sys.modules[parent], attribute, module)


def _exporters() -> dict[str, ModuleType]:
    return {name: module for name, module in sys.modules.items() if name.startswith("opentelemetry.exporter.otlp")}


@pytest.mark.usefixtures("exporters_are_loaded_anew")
@pytest.mark.parametrize("package", ["grpc", "requests"])
def test_an_exporter_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    protocol: Any = "grpc" if package == "grpc" else "http/protobuf"
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # over HTTP, `requests` is there for those who need it
    telemetry = make(otlp_endpoint="http://127.0.0.1:9", otlp_protocol=protocol)
    monkeypatch.setitem(sys.modules, package, None)
    telemetry.start(SnapshotReader(0.0))
    assert {block["last_error"].split(":")[0] for block in telemetry.state(0.0).values()} == {"ModuleNotFoundError"}
    telemetry.stop(0.1)


CONFIGURATIONS: list[Callable[[], object]] = [
    lambda: logging.config.dictConfig({"version": 1, "root": {"level": "INFO", "handlers": []}}),
    lambda: logging.basicConfig(force=True, level=logging.INFO),
    lambda: logging.getLogger().handlers.clear(),
]


@pytest.mark.parametrize("configure", CONFIGURATIONS)
def test_logging_that_is_configured_anew_is_exported_again(configure: Callable[[], object]) -> None:
    root = logging.getLogger()
    kept, level = list(root.handlers), root.level
    enabled = [one for one in root.manager.loggerDict.values() if isinstance(one, logging.Logger) and not one.disabled]
    with HttpSink() as sink:
        telemetry = make(otlp_endpoint=sink.endpoint, metrics_exporter="none", traces_exporter="none")
        try:
            telemetry.start(SnapshotReader(0.0))
            configure()
            telemetry.keep_logging()
            telemetry.keep_logging()
            assert telemetry.state(0.0)["logs"]["handler_restored"] == 1
            assert not logging.getLogger("otel_monitoring.alerts").disabled
            logging.getLogger(f"made after {configure}").warning("hello")
            telemetry.stop(TIMEOUT)
        finally:
            root.handlers[:], root.level = kept, level
            for one in enabled:
                one.disabled = False
        assert "hello" in str(sink.records())


@pytest.mark.parametrize("exporters", ["console", "console,otlp"])
def test_logging_that_is_configured_anew_reaches_other_exporters_again(exporters: str) -> None:
    """Of the ways to several exporters, one has the handler."""
    root = logging.getLogger()
    kept = list(root.handlers)
    telemetry = make(
        otlp_endpoint="http://127.0.0.1:9", logs_exporter=exporters, metrics_exporter="none", traces_exporter="none"
    )
    try:
        telemetry.start(SnapshotReader(0.0))
        root.handlers.clear()
        telemetry.keep_logging()
        assert telemetry.state(0.0)["logs"]["handler_restored"] == 1
        assert len(root.handlers) == 1
    finally:
        telemetry.stop(0.1)
        root.handlers[:] = kept


def test_where_nothing_is_propagated_a_request_has_a_context_all_the_same() -> None:
    """So it is with `OTEL_PROPAGATORS=none`: contrib attaches the None that OpenTelemetry's composite returns."""
    before = propagate.get_global_textmap()
    carrier: dict[str, str] = {}
    try:
        propagate.set_global_textmap(CompositePropagator([]))
        make()
        assert propagate.extract({"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}) == Context()
        assert propagate.extract({}, Context({"kept": 1})) == {"kept": 1}
        propagate.inject(carrier, trace.set_span_in_context(trace.NonRecordingSpan(trace.SpanContext(1, 2, False))))
        theirs = CompositePropagator([before])
        propagate.set_global_textmap(theirs)
        make()
        assert propagate.get_global_textmap() is theirs
    finally:
        propagate.set_global_textmap(before)
    assert not carrier


def test_what_nobody_else_handles_still_reaches_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    kept = list(root.handlers)
    telemetry = make(otlp_endpoint="http://127.0.0.1:9", metrics_exporter="none", traces_exporter="none")
    try:
        root.handlers.clear()
        telemetry.start(SnapshotReader(0.0))
        logging.getLogger("shop").warning("low on stock")
        logging.getLogger("shop").info("sold")
        root.addHandler(logging.NullHandler())
        logging.getLogger("shop").warning("handled elsewhere")
    finally:
        telemetry.stop(0.1)
        root.handlers[:] = kept
    assert capsys.readouterr().err == "low on stock\n"
