"""The state directory of the user is where the platform's other programs have theirs."""

import sys
from pathlib import Path

import pytest

from otel_monitoring.config.state_directory import user_state_directory

HOMES = {"linux": ".local/state", "darwin": "Library/Application Support"}


@pytest.mark.parametrize("platform", HOMES)
@pytest.mark.parametrize("chosen", [None, "", "relative/state", "~/state"])
def test_it_is_in_the_home(platform: str, chosen: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv("HOME", str(tmp_path))
    if chosen is None:
        monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_STATE_HOME", chosen)
    assert user_state_directory() == tmp_path / HOMES[platform]


@pytest.mark.parametrize("platform", HOMES)
def test_a_variable_moves_it(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv("XDG_STATE_HOME", "/var/lib/state")
    assert user_state_directory() == Path("/var/lib/state")


def test_on_windows_it_is_that_of_local_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert user_state_directory() == tmp_path
    monkeypatch.delenv("LOCALAPPDATA")
    assert user_state_directory() == Path.home() / "AppData" / "Local"
