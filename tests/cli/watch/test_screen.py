"""The picture of `watch`, as text."""

import io
from typing import Any

import pytest
from rich.console import Console
from rich.screen import Screen

from otel_monitoring.cli.terminal import milliseconds, rounded_duration, safe_text, sparkline
from otel_monitoring.cli.watch.poll import Refresh, RefreshHistory
from otel_monitoring.cli.watch.screen import full_screen

DIAGNOSTICS: dict[str, Any] = {
    "status": "degraded",
    "uptime_seconds": 7300,
    "reasons": ["error rate above 5%"],
    "performance": {
        "requests_recorded": 40,
        "window": {"seconds": 10, "requests_recorded": 40, "error_rate": 7.5, "p95_response_time": 0.05},
    },
    "system": {"cpu_percent": 20, "memory_percent": 30},
    "worker": {"pid": 4711, "instance_id": "a"},
    "endpoints": {
        f"/orders/{i}": {"call_count": 10, "avg_time": 0.01 * i, "p95_time": 0.5, "error_rate": 0.0} for i in range(9)
    },
}
FIRING = {
    "rule": "ErrorRate",
    "type": "high_error_rate",
    "severity": "warning",
    "state": "firing",
    "since": "2026-01-01T12:34:56.000+00:00",
    "value": 7.5,
    "threshold": 5.0,
    "message": "errors \x1b[2J everywhere",
}


URL = "http://127.0.0.1:8000/api"
KEYS = "q quit  ↑↓ select  m mute  u unmute"


def picture(
    history: RefreshHistory, *, height: int = 50, width: int = 100, message: str = "", now: float = 100.0
) -> list[str]:
    """The lines of the screen."""
    out = Console(file=io.StringIO(), width=width, height=height, markup=False, emoji=False, highlight=False)
    out.print(Screen(full_screen(history, URL, selected=0, message=message, height=height, width=width, now=now)))
    assert isinstance(out.file, io.StringIO)
    lines = out.file.getvalue().splitlines()
    assert len(lines) == height
    return [line.rstrip() for line in lines]


def watched(*refreshes: Refresh) -> RefreshHistory:
    history = RefreshHistory()
    for refresh in refreshes:
        history.add(refresh)
    return history


def worker(pid: int, at: float) -> Refresh:
    return Refresh(at, {**DIAGNOSTICS, "worker": {"pid": pid, "instance_id": str(pid)}})


def test_everything_is_shown() -> None:
    history = watched(Refresh(90.0, DIAGNOSTICS, [FIRING], {"high_cpu": "2026-01-01T13:00:00+00:00"}))
    shown = "\n".join(picture(history))
    for text in (
        "degraded  http://127.0.0.1:8000/api  up 2 h 1 min  worker 4711",
        "error rate above 5%",
        "requests         4.0/s",
        "7.5 %",
        "50 ms",
        "/orders/8",
        "> ErrorRate  firing since 12:34:56 UTC  7.5 (limit 5)",
        "    errors ·[2J everywhere",
        "  HIGH_CPU  muted until 13:00 UTC",
        KEYS,
    ):
        assert text in shown, text
    assert "\x1b" not in shown, "text of the service does not steer the terminal"


def test_figures_say_what_time_they_are_about() -> None:
    lines = picture(watched(Refresh(90.0, DIAGNOSTICS)))
    ever = next(number for number, line in enumerate(lines) if line.startswith("since start, by load  "))
    now, lately = lines.index("now:"), lines.index("last 10 s:")
    under = [line.split()[0] for line in lines if line.startswith("  ")]
    assert under[: lately - now - 1] == ["requests", "CPU", "memory", "loop", "database"]
    assert [line.split()[0] for line in lines[lately + 1 : ever]] == ["errors", "p50", "p95", "p99"]
    assert lines[ever + 1].startswith("/orders/8")


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (200, ["load", "calls", "avg", "p95", "p99", "errors"]),
        (80, ["load", "calls", "avg", "p95", "p99", "errors"]),
        (60, ["load", "calls", "p95", "errors"]),
        (40, ["p95", "errors"]),
    ],
)
@pytest.mark.parametrize("height", [12, 24, 60])
def test_it_is_readable_at_any_size(width: int, columns: list[str], height: int) -> None:
    many = [{**FIRING, "type": f"type_{number}"} for number in range(30)]
    long = {f"/api/deliveries/{{delivery_id}}/confirm/{'x' * number}": {"call_count": 10} for number in range(30)}
    history = watched(Refresh(90.0, {**DIAGNOSTICS, "reasons": ["x " * 200], "endpoints": long}, many))
    lines = picture(history, width=width, height=height, message="HIGH_CPU is muted until " + "z" * 200)
    assert lines[-1] == KEYS, "whatever there is to say, and to show"
    assert lines[-2].startswith("HIGH_CPU is muted")
    assert all(len(line) <= width for line in lines)
    if height >= 24:
        heading = next(line for line in lines if line.startswith("since start, by load"))
        assert heading.split()[4:] == columns, "no column is cut"
        assert "  p99" in lines[lines.index("last 10 s:") + 4]
    if height == 60:
        assert any(line.startswith("> ErrorRate  firing") for line in lines)
        counted = next(line.split()[1] for line in lines if line.startswith("  and "))
        assert int(counted) == 30 - sum("ErrorRate" in line for line in lines), "alerts that are left out are counted"


def test_the_selected_alert_is_among_those_shown() -> None:
    many = [{**FIRING, "type": f"type_{number}", "rule": f"rule_{number}"} for number in range(30)]
    out = Console(file=io.StringIO(), width=80, height=40)
    history = watched(Refresh(90.0, DIAGNOSTICS, many))
    out.print(Screen(full_screen(history, URL, selected=20, message="", height=40, width=80, now=100.0)))
    assert isinstance(out.file, io.StringIO)
    assert "> rule_20  firing" in out.file.getvalue()


def test_a_small_terminal_gets_fewer_endpoints() -> None:
    lines = picture(watched(Refresh(90.0, DIAGNOSTICS)), height=24)
    assert "and 4 more" in lines
    assert "no alerts" in lines


def test_without_an_answer_the_last_figures_stay() -> None:
    assert "asking" in picture(watched())[0]
    assert f"no answer for 10 s  {URL}  refused" in picture(watched(Refresh(90.0, error="refused")))[0]
    assert "no access for 0 s" in picture(watched(Refresh(100.0, error="set a token", denied=True)))[0]
    lines = picture(watched(Refresh(91.0, DIAGNOSTICS), Refresh(95.0, error="refused")), message="high_cpu is muted")
    assert lines[0] == f"no answer for 5 s  {URL}  refused"
    assert lines[1] == "worker 4711 answered last at 00:01:31 UTC: its figures stay"
    assert any(line.startswith("/orders/8") for line in lines)
    assert lines[-2:] == ["high_cpu is muted", KEYS]


def test_it_says_that_a_worker_is_gone_and_whose_figures_these_are() -> None:
    history = watched(worker(1, 90.0), worker(1, 92.0))
    assert not any("gone" in line for line in picture(history, now=92.0))
    history.add(worker(2, 94.0))
    lines = picture(history, now=94.0)
    assert lines[0].endswith("worker 2")
    assert lines[1] == "worker 1 is gone: it answered last 2 s ago"
    history.add(worker(1, 96.0))
    lines = picture(history, now=96.0)
    assert lines[0].endswith("worker 1"), "it is there after all: they answer by turns"
    assert not any("gone" in line for line in lines)


def test_sparklines_go_from_zero_to_the_greatest() -> None:
    assert sparkline([0, 1, None, 4, 8], 6) == " ▁▂ ▅█"
    assert sparkline([1, 8, 8], 2) == "██"
    assert sparkline([0, 0], 2) == "▁▁"
    assert sparkline([], 3) == "   "


def test_values_read_well() -> None:
    assert [rounded_duration(s) for s in (5, 65, 7300, 200_000)] == ["5 s", "1 min", "2 h 1 min", "2 d 7 h"]
    assert [milliseconds(s) for s in (None, 0.0012, 0.25, 3.0)] == ["-", "1.2 ms", "250 ms", "3.00 s"]
    assert safe_text("a\x1b[31m\nb\u202e").plain == "a·[31m·b·"
