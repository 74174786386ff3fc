"""`otel-monitoring mute` and `ack`, asked of a real service."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI

from otel_monitoring import MonitoringService
from otel_monitoring.alerts import AlertManager
from otel_monitoring.alerts.mute import DEFAULT_MUTE_SECONDS
from otel_monitoring.cli import exit_codes
from otel_monitoring.cli.commands import run_command_line
from otel_monitoring.testing import ManualClock
from tests.ports import free_port
from tests.threaded_server import ThreadedServer

TOKEN = "correct-horse-battery"
NOW = 1_700_000_000.0


class Shell:
    """Types commands for one service."""

    def __init__(self, url: str, manager: AlertManager, capsys: pytest.CaptureFixture[str]) -> None:
        self.url = url
        self.manager = manager
        self._capsys = capsys

    def types(self, *words: str, url: str | None = None) -> tuple[int, str]:
        """The exit code, and what is printed."""
        code = run_command_line([*words, url or self.url])
        printed = self._capsys.readouterr()
        return code, (printed.out + printed.err).strip()

    def reads(self, *words: str) -> Any:
        """The JSON that is printed."""
        code, text = self.types(*words, "--json")
        assert code == exit_codes.OK, text
        return json.loads(text)


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    monkeypatch.setenv("OTEL_MONITORING_ADMIN_TOKEN", TOKEN)
    app, manager = FastAPI(), AlertManager(channels=[], clock=ManualClock(NOW))
    MonitoringService(None, alert_manager=manager, store="memory").instrument(app)
    server = ThreadedServer(app)
    try:
        yield Shell(server.url, manager, capsys)
    finally:
        server.stop()


def test_mutes_are_made_listed_and_ended(shell: Shell) -> None:
    assert shell.types("mute") == (exit_codes.OK, "nothing is muted")
    code, text = shell.types("mute", "--type", "api_timeout", "--label", "endpoint=/a=b", "--author", "ana")
    assert (code, text.split("  ")[1]) == (
        exit_codes.OK,
        "api_timeout endpoint=/a=b until 2023-11-14T23:13:20.000+00:00 by ana",
    )
    made = shell.reads("mute", "--rule", "high_cpu", "--for", "2h", "--reason", "import", "--author", "bo")
    assert (made["rule"], made["duration_seconds"], made["reason"]) == ("high_cpu", 7200, "import")
    listed = shell.reads("mute")
    assert [mute["until"] for mute in listed] == ["2023-11-14T23:13:20.000+00:00", "2023-11-15T00:13:20.000+00:00"]
    assert DEFAULT_MUTE_SECONDS == 3600.0
    assert shell.types("mute", "--end", listed[0]["id"]) == (exit_codes.OK, f"{listed[0]['id']} is no longer muted")
    assert shell.types("mute", "--end", "high_cpu")[0] == exit_codes.OK
    assert shell.types("mute", "--end", "high_cpu") == (exit_codes.FAILED, "high_cpu is not muted")
    assert shell.types("mute") == (exit_codes.OK, "nothing is muted")


def test_an_alert_is_acknowledged_and_that_is_taken_back(shell: Shell) -> None:
    assert shell.types("ack") == (exit_codes.OK, "nothing fires")
    asyncio.run(shell.manager.send_alert("billing_failure", "7 failed"))
    (event,) = asyncio.run(shell.manager.get_alert_history())
    incident = event["incident"]

    def ack(*words: str) -> tuple[int, str]:
        return shell.types("ack", *words, shell.url, url=incident)

    assert ack("--author", "ana", "--reason", "on it") == (0, f"{incident}  acknowledged by ana: on it")
    assert ack("--undo") == (0, f"{incident} is repeated again")
    assert ack("--undo") == (exit_codes.FAILED, f"{incident} is not acknowledged")
    assert shell.types("ack", shell.url, url="0" * 16) == (1, f"nothing of the incident {'0' * 16} fires")


def test_windows_are_planned_listed_and_removed(shell: Shell) -> None:
    assert shell.types("maintenance") == (exit_codes.OK, "nothing is planned")
    once = ("--from", "2023-11-15T22:00", "--to", "2023-11-16T01:00", "--author", "ana", "--reason", "new disks")
    code, text = shell.types("maintenance", *once)
    shown = "everything planned 2023-11-15T22:00:00.000+00:00 to 2023-11-16T01:00:00.000+00:00 by ana: new disks"
    assert (code, text.partition("  ")[2]) == (exit_codes.OK, shown)
    weekly = ("--days", "mon-fri", "--from", "20:00", "--to", "23:00", "--timezone", "Europe/Berlin")
    made = shell.reads("maintenance", *weekly, "--rule", "high_cpu")
    assert (made["weekly"]["days"], made["opens"]) == (
        ["mon", "tue", "wed", "thu", "fri"],
        "2023-11-15T19:00:00.000+00:00",
    )
    assert [window["rule"] for window in shell.reads("maintenance")] == ["high_cpu", None]
    assert shell.types("maintenance", "--end", made["id"]) == (exit_codes.OK, f"{made['id']} is removed")
    assert shell.types("maintenance", "--end", made["id"]) == (exit_codes.FAILED, f"{made['id']} is not planned")
    assert shell.types("maintenance", "--from", "2023-11-15T22:00")[1] == "to: is needed, or weekly"


def test_a_wrong_name_a_wrong_token_and_no_service_are_told_apart(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, text = shell.types("mute", "--type", "databse_down")
    assert (code, text.startswith("type: no such type; did you mean database_down?")) == (exit_codes.FAILED, True)
    assert shell.types("mute", "--type", "custom", "--for", "soon")[0] == exit_codes.USAGE
    assert shell.types("mute", "--label", "endpoint")[0] == exit_codes.USAGE
    assert shell.types("mute", url=f"http://127.0.0.1:{free_port()}")[0] == exit_codes.UNREACHABLE
    monkeypatch.setenv("OTEL_MONITORING_ADMIN_TOKEN", "something-else")
    assert shell.types("mute") == (exit_codes.DENIED, "the admin token is wrong")
    monkeypatch.delenv("OTEL_MONITORING_ADMIN_TOKEN")
    assert shell.types("mute") == (exit_codes.DENIED, "Admin token required: set OTEL_MONITORING_ADMIN_TOKEN")


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        (("mute", "--for", "2h"), "--for: say which alerts"),
        (("mute", "--reason", "noise", "--for", "0"), "--for, --reason: say which alerts"),
        (("maintenance", "--rule", "backlog"), "--rule: say when"),
        (("maintenance", "--timezone", "Europe/Berlin", "--label", "queue=mail"), "--label, --timezone: say when"),
        (("ack", "--undo"), "--undo: say which INCIDENT"),
        (("ack", "--reason", "on it"), "--reason: say which INCIDENT"),
    ],
)
def test_who_says_how_but_not_what_gets_no_list(shell: Shell, command: tuple[str, ...], missing: str) -> None:
    code, said = shell.types(*command)
    assert code == exit_codes.USAGE
    assert missing in said


def test_a_mute_for_no_time_is_refused(shell: Shell) -> None:
    code, said = shell.types("mute", "--type", "custom", "--for", "0")
    assert code == exit_codes.FAILED
    assert "duration_seconds" in said
