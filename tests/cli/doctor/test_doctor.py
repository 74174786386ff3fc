"""The checks of `doctor`, one by one, each with something that is in order and something that is not."""

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from otel_monitoring.cli import exit_codes
from otel_monitoring.cli.client import ServiceClient
from otel_monitoring.cli.commands import run_command_line
from otel_monitoring.cli.doctor.channels import channels
from otel_monitoring.cli.doctor.clock import _skew, clock
from otel_monitoring.cli.doctor.command import CHECKS
from otel_monitoring.cli.doctor.database import database
from otel_monitoring.cli.doctor.findings import Examination, Examine, Finding, Level, findings_of
from otel_monitoring.cli.doctor.otlp import advice_for, otlp, trace_context
from otel_monitoring.cli.doctor.prometheus import prometheus
from otel_monitoring.cli.doctor.running_service import running_service
from otel_monitoring.cli.doctor.semconv import semantic_conventions
from otel_monitoring.cli.doctor.settings import settings_valid
from otel_monitoring.cli.doctor.state_dir import state_directory
from otel_monitoring.cli.doctor.store import store
from otel_monitoring.cli.doctor.versions import KNOWN_PROBLEMS, KnownProblem, versions
from tests.alerts.store.test_store import server_of
from tests.http_server import Answer, HttpServer, Request
from tests.integration.servers import nx27017
from tests.otlp_sink import GrpcSink, HttpSink
from tests.ports import free_port
from tests.wire import Document, wire_server


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("OTEL_", "SMTP_", "ALERT", "SLACK_", "MONGODB_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_MONITORING_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


def examine(
    check: Examine, *, database_uri: str | None = None, send_test: bool = False, timeout: float = 30.0
) -> list[Finding]:
    return list(check(Examination.of_this_environment(database_uri=database_uri, send_test=send_test, timeout=timeout)))


def levels(findings: list[Finding]) -> list[tuple[str, Level]]:
    return [(finding.check, finding.level) for finding in findings]


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (Answer(401), "OTEL_MONITORING_PROMETHEUS_HEADERS"),
        (Answer(404), "before /api/v1"),
        (Answer(body=b"<html>"), "before /api/v1"),
    ],
)
def test_a_prometheus_that_gives_no_answer_fails(monkeypatch: pytest.MonkeyPatch, answer: Answer, advice: str) -> None:
    assert levels(examine(prometheus)) == [("Prometheus", Level.SKIPPED)]
    with HttpServer(lambda _: answer) as server:
        monkeypatch.setenv("OTEL_MONITORING_PROMETHEUS_URL", server.url.replace("//", "//ana:hunter2@"))
        (found,) = examine(prometheus)
    assert found.level is Level.FAILED
    assert advice in str(found.advice)
    assert "hunter2" not in str(found)


def test_a_prometheus_without_rules_and_alertmanager_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: Request) -> Answer:
        if request.path.endswith("alertmanagers"):
            return Answer(body=b'{"data": {"activeAlertmanagers": []}}')
        if request.body == b"query=time%28%29":
            return Answer(body=json.dumps({"data": {"result": [0, str(time.time())]}}).encode())
        return Answer(body=b'{"data": {"result": []}}')

    with HttpServer(answer) as server:
        monkeypatch.setenv("OTEL_MONITORING_PROMETHEUS_URL", server.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
        found = levels(examine(prometheus))
    assert found == [("Prometheus", Level.OK), ("Prometheus rules", Level.WARNING), ("Alertmanager", Level.WARNING)]


def test_each_wrong_setting_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_MONITORING_CHECK_INTERVAL", "never")
    monkeypatch.setenv("OTEL_MONITORING_PREFIX", "api")
    findings = examine(settings_valid)
    assert [finding.level for finding in findings] == [Level.FAILED, Level.FAILED]
    assert {finding.message.partition(":")[0] for finding in findings} == {
        "OTEL_MONITORING_CHECK_INTERVAL",
        "OTEL_MONITORING_PREFIX",
    }


def test_the_number_that_was_meant_is_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_MONITORING_CHECK_INTERVAL", "5m")
    monkeypatch.setenv("OTEL_MONITORING_PREFIX", "api")
    advice = {finding.message.partition(":")[0]: finding.advice or "" for finding in examine(settings_valid)}
    assert advice.keys() == {"OTEL_MONITORING_CHECK_INTERVAL", "OTEL_MONITORING_PREFIX"}
    assert advice["OTEL_MONITORING_CHECK_INTERVAL"].startswith("did you mean 300?")
    assert advice["OTEL_MONITORING_PREFIX"].startswith("correct it")


def test_a_name_that_nobody_reads_is_a_slip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_MONITORING_ADMIN_TOKEN", "correct-horse-battery")
    assert levels(examine(settings_valid)) == [("settings", Level.OK)]
    monkeypatch.setenv("OTEL_MONITORING_CHEK_INTERVAL", "70")
    monkeypatch.setenv("OTEL_MONITORING_THRESHOLD_MEMORY_PERCENT", "70")
    findings = examine(settings_valid)
    assert levels(findings) == [("settings", Level.OK), ("settings", Level.WARNING)]
    assert findings[1].advice == "did you mean OTEL_MONITORING_CHECK_INTERVAL?"


@pytest.mark.parametrize(("access", "says"), [("open", "everybody"), ("admin", "403")])
def test_who_sees_the_details_is_said(monkeypatch: pytest.MonkeyPatch, access: str, says: str) -> None:
    monkeypatch.setenv("OTEL_MONITORING_ACCESS", access)
    assert says in examine(settings_valid)[1].message


@pytest.mark.parametrize(
    ("value", "level"),
    [("", Level.OK), ("http,database", Level.OK), ("http/dup, database/dup", Level.OK), ("http", Level.WARNING)],
)
def test_conventions(monkeypatch: pytest.MonkeyPatch, value: str, level: Level) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", value)
    assert levels(examine(semantic_conventions)) == [("semantic conventions", level)]


def test_known_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(finding.advice or finding.level is Level.OK for finding in examine(versions))
    bad = KnownProblem("pytest", ">1", Level.FAILED, "it tests", "test less")
    monkeypatch.setattr("otel_monitoring.cli.doctor.versions.KNOWN_PROBLEMS", (*KNOWN_PROBLEMS, bad))
    assert ("versions", Level.FAILED) in levels(examine(versions))


def test_the_state_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    [finding] = examine(state_directory)
    assert (finding.level, finding.message) == (Level.OK, f"{tmp_path / 'state'} can be written (will be made)")
    assert not (tmp_path / "state").exists(), "nothing is changed"
    monkeypatch.setenv("OTEL_MONITORING_STATE_DIR", "/proc/no-such-directory")
    [finding] = examine(state_directory)
    assert finding.level is Level.FAILED
    assert "OTEL_MONITORING_STATE_DIR" in str(finding.advice)
    monkeypatch.setenv("OTEL_MONITORING_STORE", "memory")
    assert levels(examine(state_directory)) == [("state directory", Level.SKIPPED)]


@pytest.mark.integration
def test_the_database_of_the_store_is_read_and_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    server = server_of(nx27017)
    monkeypatch.setenv("OTEL_MONITORING_STORE", "mongodb")
    uri = f"{server.uri}/of_the_doctor"
    [found] = examine(store, database_uri=uri)
    monkeypatch.setenv("OTEL_MONITORING_STORE_URI", uri)
    [again] = examine(store, database_uri="mongodb://127.0.0.1:1/of_the_application")
    assert [one.level for one in (found, again)] == [Level.OK, Level.OK]
    with MongoClient[dict[str, object]](uri) as client:
        database_there = client["of_the_doctor"]
        assert not any(list(database_there[name].find()) for name in database_there.list_collection_names())


def test_a_store_that_cannot_work_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert levels(examine(store)) == [("store", Level.SKIPPED)]
    monkeypatch.setenv("OTEL_MONITORING_STORE", "mongodb")
    [unknown] = examine(store)
    assert (unknown.level, "--database" in str(unknown.advice)) == (Level.SKIPPED, True)
    monkeypatch.setenv("OTEL_MONITORING_STORE_URI", f"mongodb://ana:hunter2@127.0.0.1:{free_port()}/shop")
    [away] = examine(store)
    assert away.level is Level.FAILED
    assert "hunter2" not in str(away)


def test_a_store_that_may_not_be_written_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(command: Document) -> Document:
        if "delete" in command:
            return {"ok": 0, "code": 13, "codeName": "Unauthorized", "errmsg": "not authorized on shop"}
        return {"ok": 1, "cursor": {"id": 0, "ns": "shop.x", "firstBatch": []}}

    monkeypatch.setenv("OTEL_MONITORING_STORE", "mongodb")
    with wire_server(answer) as uri:
        [found] = examine(store, database_uri=uri)
    assert (found.level, "readWrite" in str(found.advice)) == (Level.FAILED, True)
    assert "not authorized" in found.message


@pytest.mark.parametrize("sink_type", [HttpSink, GrpcSink])
def test_an_endpoint_is_asked_for_every_signal(
    monkeypatch: pytest.MonkeyPatch, sink_type: type[HttpSink] | type[GrpcSink]
) -> None:
    with sink_type() as sink:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc" if sink_type is GrpcSink else "http/protobuf")
        findings = examine(otlp)
        assert levels(findings) == [(f"OTLP {signal}", Level.OK) for signal in ("traces", "metrics", "logs")]
        assert sorted(request.signal for request in sink.requests) == ["logs", "metrics", "traces"]
        assert not sink.spans(), "nothing was sent"


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:40121", "Collector running"),
        ("StatusCode.UNAUTHENTICATED", "OTEL_EXPORTER_OTLP_HEADERS"),
        ("401 Client Error: Unauthorized for url: http://127.0.0.1:4318/v1/traces", "OTEL_EXPORTER_OTLP_HEADERS"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", "OTEL_EXPORTER_OTLP_CERTIFICATE"),
    ],
)
def test_the_advice_follows_the_reason(reason: str, told: str) -> None:
    assert told in advice_for(reason)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_an_endpoint_that_refuses(monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "none")
    findings = examine(otlp, timeout=0.5)
    assert levels(findings) == [
        ("OTLP traces", Level.FAILED),
        ("OTLP metrics", Level.FAILED),
        ("OTLP logs", Level.SKIPPED),
    ]
    # gRPC tries again until the time is up, and may have nothing to say by then.
    assert re.search("refused|UNAVAILABLE|no answer in time", findings[0].message, re.IGNORECASE)
    assert "Collector" in str(findings[0].advice)


class Answering:
    """Takes everything but logs; its clock is wrong by `ahead` seconds, and it says `says` to who asks."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.says: dict[str, Any] | None = None
        self._server = HttpServer(self._answer)
        self.url = self._server.url

    def _answer(self, request: Request) -> Answer:
        date = {"Date": formatdate(time.time() + self.ahead, usegmt=True)}
        if request.method == "POST":
            return Answer(404 if request.path == "/v1/logs" else 200, headers=date)
        return Answer(404, headers=date) if self.says is None else Answer(200, json.dumps(self.says).encode(), date)

    @property
    def posted(self) -> list[bytes]:
        return [request.body for request in self._server.requests if request.method == "POST"]


@pytest.fixture
def answering() -> Iterator[Answering]:
    answering = Answering()
    with answering._server:
        yield answering


def test_an_endpoint_that_takes_no_logs(monkeypatch: pytest.MonkeyPatch, answering: Answering) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", answering.url)
    findings = {finding.check: finding for finding in examine(otlp)}
    assert findings["OTLP traces"].level is Level.OK
    assert findings["OTLP logs"].level is Level.FAILED
    assert "pipeline" in str(findings["OTLP logs"].advice)


@pytest.mark.parametrize(
    ("ahead", "level"), [(0, Level.OK), (20, Level.WARNING), (-20, Level.WARNING), (900, Level.FAILED)]
)
def test_clocks(monkeypatch: pytest.MonkeyPatch, answering: Answering, ahead: float, level: Level) -> None:
    answering.ahead = ahead
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", answering.url)
    [finding] = examine(clock)
    assert finding.level is level
    if ahead:
        assert ("behind" if ahead > 0 else "ahead of") in finding.message


def test_a_clock_is_only_blamed_for_what_is_sure() -> None:
    assert _skew(100.2, 100.4, 100.0, 1.0) == 0.0, "a Date has whole seconds"
    assert _skew(100.0, 109.0, 105.0, 1.0) == 0.0, "the answer took long"
    assert _skew(110.0, 111.0, 105.0, 1.0) == 4.0
    assert _skew(100.0, 101.0, 105.0, 1.0) == -4.0


def test_without_traces_nothing_is_carried(monkeypatch: pytest.MonkeyPatch) -> None:
    assert levels(examine(trace_context)) == [("trace context", Level.SKIPPED)]
    assert "carry() writes nothing" in examine(trace_context)[0].message
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    assert levels(examine(trace_context)) == [("trace context", Level.OK)]
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert levels(examine(trace_context)) == [("trace context", Level.SKIPPED)]
    monkeypatch.setenv("OTEL_MONITORING_CHECK_INTERVAL", "never")
    assert levels(examine(trace_context)) == [("trace context", Level.SKIPPED)]


def test_what_a_running_service_says_is_explained(answering: Answering) -> None:
    diagnostics = {
        "status": "degraded",
        "reasons": ["check cache fails: refused", "error rate above 5%", "something new"],
        "performance": {"last_error": "ValueError: no stock"},
        "telemetry": {"traces": {"failures": 2, "dropped": 0}, "metrics": None, "new": "unknown"},
        "alerting": {
            "channels": {"slack": {"state": "failing", "last_error": "gone"}},
            "store_problem": "disk full",
        },
        "worker": {"contained_failures": {"a listener": 3}},
        "seams": [{"library": "pymongo", "version": "9.0", "without": "no pool gauges", "error": "gone"}, "unknown"],
    }
    answering.says = diagnostics
    service = ServiceClient(answering.url, token="t0ken")
    examination = Examination.of_this_environment(database_uri=None, send_test=False, timeout=3.0)
    examination = replace(examination, service=service)
    found = {finding.message: str(finding.advice) for finding in running_service(examination)}
    assert found.keys() >= {*diagnostics["reasons"], "monitoring failed at a listener, 3 times", "disk full"}
    assert "add_check" in found["check cache fails: refused"]
    assert "ValueError: no stock" in found["error rate above 5%"]
    assert found["traces: 2 exports failed, 0 items were dropped"]
    assert found["alerts by slack do not arrive: failing, 0 wait"] == "gone"
    assert "gone" in found["pymongo 9.0 is built differently than expected: no pool gauges"]


def test_without_a_database_it_says_how_to_name_one() -> None:
    [finding] = examine(database)
    assert (finding.level, "--database" in str(finding.advice)) == (Level.SKIPPED, True)


@pytest.mark.parametrize(
    "uri", ["mongodb://", "mongodb://user:hunter2@127.0.0.1:{port}/shop?serverSelectionTimeoutMS=200"]
)
def test_a_database_that_does_not_answer(uri: str) -> None:
    [finding] = examine(database, database_uri=uri.format(port=free_port()), timeout=0.5)
    assert finding.level is Level.FAILED
    assert "hunter2" not in str(finding)


def test_channels_are_named_and_nothing_is_sent_unasked(monkeypatch: pytest.MonkeyPatch, answering: Answering) -> None:
    assert levels(examine(channels)) == [
        ("email", Level.SKIPPED),
        ("slack", Level.SKIPPED),
        ("channels", Level.WARNING),
    ]
    monkeypatch.setenv("SLACK_WEBHOOK_URL", f"{answering.url}/services/T0/B0/x")
    assert levels(examine(channels)) == [("email", Level.SKIPPED), ("slack", Level.OK)]
    assert not answering.posted


def test_test_alerts_arrive(monkeypatch: pytest.MonkeyPatch, answering: Answering) -> None:
    from aiosmtpd.controller import Controller

    class Inbox:
        def __init__(self) -> None:
            self.messages: list[bytes] = []

        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
            self.messages.append(envelope.content)
            return "250 OK"

    inbox = Inbox()
    port = free_port()
    controller = Controller(inbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        monkeypatch.setenv("SMTP_SERVER", "127.0.0.1")
        monkeypatch.setenv("SMTP_PORT", str(port))
        monkeypatch.setenv("SMTP_SECURITY", "none")
        monkeypatch.setenv("ALERT_EMAIL_FROM", "alerts@example.com")
        monkeypatch.setenv("ALERT_EMAIL_TO", "ops@example.com")
        monkeypatch.setenv("SLACK_WEBHOOK_URL", f"http://127.0.0.1:{free_port()}/services/T0/B0/x")
        findings = examine(channels, send_test=True)
    finally:
        controller.stop()
    assert levels(findings) == [("email", Level.OK), ("slack", Level.FAILED)]
    assert b"Test alert" in inbox.messages[0]


def test_a_check_that_fails_itself_stops_no_other() -> None:
    def broken(_: Examination) -> Iterator[Finding]:
        yield Finding("first", Level.OK, "fine")
        raise RuntimeError("mongodb://user:hunter2@db")

    examination = Examination.of_this_environment(database_uri=None, send_test=False, timeout=1.0)
    found = list(findings_of(broken, examination))
    assert levels(found) == [("first", Level.OK), ("broken", Level.FAILED)]
    assert "hunter2" not in found[1].message


def test_the_command_walks_all_checks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(CHECKS) == 12
    monkeypatch.setenv("OTEL_MONITORING_ADMIN_TOKEN", "correct-horse-battery")
    assert run_command_line(["doctor"]) == exit_codes.OK, capsys.readouterr().out
    shown = capsys.readouterr().out
    assert "✓ settings" in shown
    assert "→ set SLACK_WEBHOOK_URL" in shown
    assert "alerts go to the log only" in shown
    assert run_command_line(["doctor", "--strict"]) == exit_codes.FAILED
    monkeypatch.setenv("OTEL_MONITORING_CHECK_INTERVAL", "never")
    capsys.readouterr()
    assert run_command_line(["doctor", "--json", "--url", f"http://127.0.0.1:{free_port()}"]) == exit_codes.FAILED
    assert json.loads(capsys.readouterr().out)["exit_code"] == exit_codes.FAILED


def test_the_prefix_may_be_in_the_file_of_settings(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, answering: Answering
) -> None:
    answering.says = {"status": "healthy"}
    (tmp_path / ".env").write_text("OTEL_MONITORING_PREFIX=/internal\n")
    url = answering.url
    run_command_line(["doctor", "--json", "--url", url])
    said = [finding["message"] for finding in json.loads(capsys.readouterr().out)["findings"]]
    assert f"{url}/internal is healthy" in said
    assert run_command_line(["doctor", "--url", "ftp://x"]) == exit_codes.USAGE
