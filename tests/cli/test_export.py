"""`otel-monitoring export`, as a person calls it."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from otel_monitoring.cli import exit_codes
from otel_monitoring.cli.commands import run_command_line

APPLICATION = """
from fastapi import FastAPI
from otel_monitoring import MonitoringService
from otel_monitoring.alerts import AlertManager, Count, Gauge, Rule

app = FastAPI(title="orders")
manager = AlertManager()
monitoring = MonitoringService(None, alert_manager=manager, prefix="/ops").instrument(app)
monitoring.add_rule(Rule("queue_long", Gauge("queue.length"), ">", 100))
rules = [Rule("lonely", Count("lonely"), ">", 0)]
nothing = 3
"""


@pytest.fixture
def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "exported_app.py").write_text(APPLICATION)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTEL_MONITORING_STORE", "memory")
    monkeypatch.delitem(sys.modules, "exported_app", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return "exported_app"


def alerts(text: str) -> list[str]:
    return [rule["alert"] for rule in yaml.safe_load(text)["groups"][0]["rules"] if "alert" in rule]


def test_one_file_is_printed_as_it_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_MONITORING_THRESHOLD_CPU_PERCENT", "70")
    assert run_command_line(["export", "prometheus", "--service", "orders", "--histograms", "classic"]) == exit_codes.OK
    text = capsys.readouterr().out
    assert "HIGH_CPU" in alerts(text)
    assert 'otel_monitoring:high_cpu{job=~"(.+/)?orders"} > 70' in text
    assert "http_server_request_duration_seconds_bucket{" in text


def test_several_files_are_printed_under_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["export", "datadog"]) == exit_codes.OK
    _, first, *_ = capsys.readouterr().out.split("==> ")
    name, _, text = first.partition(" <==\n")
    assert name == "datadog/database_down.json"
    assert json.loads(text)["name"].startswith("DATABASE_DOWN")


def test_check_says_what_is_not_up_to_date(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["export", "prometheus", "--out", str(tmp_path)]
    assert run_command_line([*command, "--check"]) == exit_codes.FAILED
    assert f"{tmp_path}/prometheus/rules.yaml: not up to date" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert run_command_line(command) == exit_codes.OK
    assert capsys.readouterr().out == f"{tmp_path}/prometheus/rules.yaml\n"
    assert run_command_line([*command, "--check"]) == exit_codes.OK


@pytest.mark.parametrize("attribute", ["monitoring", "manager", "app"])
def test_rules_of_an_application(application: str, attribute: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["export", "prometheus", "--app", f"{application}:{attribute}"]) == exit_codes.OK
    found = alerts(capsys.readouterr().out)
    assert "queue_long" in found
    assert "DATABASE_DOWN" in found


def test_rules_alone(application: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["export", "prometheus", "--app", f"{application}:rules"]) == exit_codes.OK
    assert alerts(capsys.readouterr().out) == ["lonely"]


@pytest.mark.parametrize(
    ("app", "message"),
    [
        ("nowhere:app", "there is no module nowhere"),
        ("exported_app:missing", "exported_app has no missing"),
        ("exported_app", "write module:attribute"),
        ("exported_app:nothing", "is no MonitoringService"),
    ],
)
def test_wrong_applications(
    application: str, app: str, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from otel_monitoring.cli import application_rules as named

    monkeypatch.setattr(named, "get_monitoring", lambda: None)
    assert run_command_line(["export", "prometheus", "--app", app]) == exit_codes.USAGE
    assert message in capsys.readouterr().err


def test_check_needs_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["export", "all", "--check"]) == exit_codes.USAGE
    assert "--out" in capsys.readouterr().err
