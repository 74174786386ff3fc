"""The picture of `watch`, as text."""

import io
from typing import Any

from rich.console import Console

from otel_monitoring.cli.refresh import Refresh, Trail
from otel_monitoring.cli.screen import draw
from otel_monitoring.cli.text import duration, milliseconds, plain, sparkline

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


def picture(trail: Trail, *, height: int = 40, message: str = "", now: float = 100.0) -> str:
    out = Console(file=io.StringIO(), width=100, markup=False, emoji=False, highlight=False)
    out.print(draw(trail, "http://x/api", selected=0, message=message, height=height, width=100, now=now))
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def test_everything_is_shown() -> None:
    trail = Trail()
    trail.add(Refresh(90.0, DIAGNOSTICS, [FIRING], {"high_cpu": "2026-01-01T13:00:00+00:00"}))
    shown = picture(trail)
    for text in (
        "degraded  http://x/api  up 2 h 1 min  worker 4711",
        "error rate above 5%",
        "4.0/s",
        "7.5 %",
        "50 ms",
        "/orders/8",
        "> ",
        "ErrorRate",
        "firing",
        "12:34:56",
        "7.5 (limit 5)",
        "HIGH_CPU",
        "muted until 13:00 UTC",
        "q quit",
    ):
        assert text in shown, text
    assert "\x1b" not in shown, "text of the service does not steer the terminal"


def test_a_small_terminal_gets_fewer_endpoints() -> None:
    trail = Trail()
    trail.add(Refresh(90.0, DIAGNOSTICS))
    shown = picture(trail, height=22)
    assert "and 5 more" in shown
    assert len(shown.splitlines()) <= 22


def test_without_an_answer_the_last_figures_stay() -> None:
    trail = Trail()
    assert "asking" in picture(trail)
    trail.add(Refresh(90.0, error="refused"))
    assert "no answer for 10 s  http://x/api  refused" in picture(trail)
    trail.add(Refresh(91.0, DIAGNOSTICS))
    trail.add(Refresh(95.0, error="refused"))
    shown = picture(trail, message="high_cpu is muted")
    assert "no answer for 5 s" in shown
    assert "/orders/8" in shown
    assert "high_cpu is muted" in shown


def test_sparklines_go_from_zero_to_the_greatest() -> None:
    assert sparkline([0, 1, None, 4, 8], 6) == " ▁▂ ▅█"
    assert sparkline([1, 8, 8], 2) == "██"
    assert sparkline([0, 0], 2) == "▁▁"
    assert sparkline([], 3) == "   "


def test_values_read_well() -> None:
    assert [duration(s) for s in (5, 65, 7300, 200_000)] == ["5 s", "1 min", "2 h 1 min", "2 d 7 h"]
    assert [milliseconds(s) for s in (None, 0.0012, 0.25, 3.0)] == ["-", "1.2 ms", "250 ms", "3.00 s"]
    assert plain("a\x1b[31m\nb\u202e").plain == "a·[31m·b·"
