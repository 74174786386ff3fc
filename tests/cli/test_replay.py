"""`otel-monitoring replay`, as a person calls it, over a file that a service wrote."""

import json
import sys
import time
from pathlib import Path

import pytest

from otel_monitoring.alerts.store.sqlite import SqliteStore
from otel_monitoring.alerts.store.sqlite.state_file import state_path
from otel_monitoring.cli import exit_codes
from otel_monitoring.cli.commands import run_command_line
from otel_monitoring.metrics.slices.codec import encoded_routes, encoded_service
from otel_monitoring.metrics.slices.model import TIERS
from otel_monitoring.metrics.slices.recorder import WrittenUpTo
from otel_monitoring.metrics.slices.table import Position, SliceRow
from tests.metrics.slices.test_sums import content

HOUR = 3600
RULES = """
from otel_monitoring.alerts import Rule, Slo, error_rate

errors = Rule("errors", error_rate(), ">", 20, "Errors: {value:.0f} %")
others = [Slo("orders", objective=99), Rule("hopeless", error_rate(), ">", 100)]
"""


def write_past(folder: Path, service: str, *, end: float, failed: range, hours: int = 3) -> None:
    """Hours until `end`, a request a second; all of them failed in some minutes before the end."""
    store = SqliteStore(state_path(folder, service_name=service, environment=None))
    rows, version = [], ""
    for tier in TIERS:
        for start in range(tier.slot(end - hours * HOUR), tier.slot(end - tier.seconds) + 1, tier.seconds):
            if start < end - tier.kept:
                continue
            bad = sum((end - second) // 60 in failed for second in range(start, start + tier.seconds))
            whole = content({"/a": (tier.seconds, bad)}, seconds=float(tier.seconds))
            rows.append(SliceRow(tier.seconds, start, encoded_service(whole), encoded_routes(whole.routes)))
    assert store.slices.advance(version, Position("1", WrittenUpTo(end, {}, ()).encoded()), rows)
    store.close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state directory of a service that failed for ten minutes, an hour and a half ago."""
    monkeypatch.setenv("OTEL_MONITORING_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("OTEL_MONITORING_STORE", "sqlite")
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    write_past(tmp_path, "orders", end=time.time(), failed=range(90, 100))
    return tmp_path


def test_what_our_rules_would_have_done(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["replay", "--since", "2h"]) == exit_codes.OK
    lines = capsys.readouterr().out.splitlines()
    assert "high_error_rate: once" in next(line for line in lines if line.startswith("high_error_rate"))
    assert any("(dry_run: not sent)" in line for line in lines), "a preset"
    lacking = lines[lines.index("Not replayed:") :]
    assert any(line.startswith("  database_down: the past does not have") for line in lacking)


def test_rules_of_a_file_are_tried_before_they_are_used(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "new_rules.py").write_text(RULES)
    command = ["replay", "--since", "2h", "--rule", str(folder / "new_rules.py"), "--service", "orders", "--json"]
    assert run_command_line(command) == exit_codes.OK
    found = {rule["rule"]: rule for rule in json.loads(capsys.readouterr().out)["rules"]}
    assert found["errors"]["times"] == 1
    assert 600 <= found["errors"]["seconds"] <= 1000, "for ten minutes, and until the window is clean"
    (incident,) = found["errors"]["incidents"]
    assert incident["message"].startswith("Errors: 100 %")
    assert found["hopeless"]["times"] == 0
    assert found["orders_fast_burn"]["times"] == 1


def test_a_file_of_rules_may_import_what_is_in_the_current_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `main:app` of a server does, also where the command is a script in another folder."""
    (folder / "limits_of_errors.py").write_text("LIMIT = 20")
    (folder / "new_rules.py").write_text(f"from limits_of_errors import LIMIT\n{RULES.replace('20', 'LIMIT')}")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one not in ("", str(folder))])
    for source in ("new_rules.py", "new_rules.py:errors", "./new_rules.py:others"):
        assert run_command_line(["replay", "--since", "2h", "--rule", source, "--json"]) == exit_codes.OK, source
        found = [rule["rule"] for rule in json.loads(capsys.readouterr().out)["rules"]]
        assert ("errors" in found, "hopeless" in found) == ("others" not in source, ":errors" not in source)


@pytest.mark.parametrize("arguments", [["--rule", "broken.py"], ["--rule", "broken.py:r"], ["--app", "broken:app"]])
def test_rules_that_fail_are_named_with_the_reason(
    folder: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "broken.py").write_text("r = 1 / 0")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert run_command_line(["replay", *arguments]) == exit_codes.USAGE
    assert "ZeroDivisionError: division by zero" in " ".join(capsys.readouterr().err.split())


def test_a_rule_that_cannot_be_replayed_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "impossible.py").write_text(
        'from otel_monitoring.alerts import Gauge, Rule\nr = Rule("per_room", Gauge("heat", group_by="room"), ">", 1)'
    )
    assert run_command_line(["replay", "--rule", str(folder / "impossible.py")]) == exit_codes.USAGE
    assert "per_room cannot be replayed: the past has heat in all" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--since", "90d"], "--since"),
        (["--since", "soon"], "--since"),
        (["--service", "billing"], "there is the past of: orders"),
        (["--rule", "nothing.py"], "there is no such file"),
        (["--rule", "no_such_module"], "there is no module"),
        (["--rule", "otel_monitoring.semconv"], "neither a Rule nor a Slo"),
        (["--rule", "nothing.py:errors"], "nothing.py: there is no such file"),
        (["--rule", "./nothing:errors"], "./nothing: "),
        (["--app", ".nothing:app"], ".nothing: TypeError: "),
    ],
)
def test_what_is_wrong_is_said(
    folder: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line(["replay", *arguments]) == exit_codes.USAGE
    assert says in " ".join(capsys.readouterr().err.split())


def test_without_a_past_there_is_nothing_to_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_MONITORING_STATE_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("OTEL_MONITORING_STORE", "sqlite")
    assert run_command_line(["replay"]) == exit_codes.USAGE
    assert "no past of a service" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setenv("OTEL_MONITORING_STORE", "memory")
    assert run_command_line(["replay"]) == exit_codes.USAGE
