"""Lines at the start: always in the log, and on stderr where that is asked for and logging shows nothing."""

import logging

import pytest

from otel_monitoring.runtime import start_log


def test_stderr_gets_it_where_it_is_asked_for_and_logging_shows_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    caplog.set_level(logging.INFO, "otel_monitoring")
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(start_log, "_on_stderr", False)
    start_log.announce("quiet")
    start_log.show_announcements()
    start_log.announce("unconfigured")
    handler = logging.StreamHandler()
    root.addHandler(handler)
    start_log.announce("shown by logging")
    caplog.set_level(logging.WARNING, "otel_monitoring")
    start_log.announce("not shown by logging")
    assert capsys.readouterr().err.splitlines() == [
        "otel_monitoring: unconfigured",
        "shown by logging",
        "otel_monitoring: not shown by logging",
    ]
