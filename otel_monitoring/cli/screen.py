"""The picture that `watch` draws."""

import time
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from otel_monitoring.cli.refresh import Figures, Refresh, Trail, busiest
from otel_monitoring.cli.text import duration, milliseconds, plain, sparkline, style_of
from otel_monitoring.events import title

_GAUGES: Final = (
    ("request_rate", "requests", lambda value: f"{value:.1f}/s"),
    ("error_rate", "errors", lambda value: f"{value:.1f} %"),
    ("p50", "p50", milliseconds),
    ("p95", "p95", milliseconds),
    ("p99", "p99", milliseconds),
    ("cpu_percent", "CPU", lambda value: f"{value:.0f} %"),
    ("memory_percent", "memory", lambda value: f"{value:.0f} %"),
    ("loop_lag", "loop lag", milliseconds),
    ("ping_ms", "database", lambda value: milliseconds(value / 1000)),
)
_FRAME_LINES: Final = 8
_MIN_ENDPOINTS: Final = 3


def draw(
    trail: Trail, url: str, *, selected: int, message: str, height: int, width: int, now: float | None = None
) -> RenderableType:
    """The whole picture.

    Args:
        trail: What is known.
        url: Of the service.
        selected: Which of the alert types that can be muted is selected.
        message: The last thing that a key did.
        height: Lines there are; endpoints are left out to fit.
        width: Columns there are; sparklines are cut to fit.
        now: Unix seconds; the current time when not given.
    """
    now = time.time() if now is None else now
    parts: list[RenderableType] = [_headline(trail, url, now)]
    if trail.last is not None and trail.last.diagnostics is not None:
        dim = trail.lost_at is not None
        alerts = _alerts(trail.last, selected)
        parts += [_reasons(trail.last.diagnostics), _gauges(trail, max(8, min(60, width - 30)), dim)]
        taken = _FRAME_LINES + len(_GAUGES) + alerts.row_count
        parts += [_endpoints(trail.last.diagnostics, max(_MIN_ENDPOINTS, height - taken)), alerts]
    keys = "q quit   ↑↓ select   m mute   u unmute"
    return Group(*parts, plain(message, "bold") if message else Text(keys, "dim"))


def _headline(trail: Trail, url: str, now: float) -> Text:
    latest, last = trail.latest, trail.last
    if latest is None:
        return plain(f"{url}  asking …", "dim")
    if trail.lost_at is not None:
        since = duration(now - trail.lost_at)
        return plain(f"no answer for {since}", "bold red").append(f"  {url}  ", "default").append(plain(latest.error))
    diagnostics = last.diagnostics or {} if last is not None else {}
    status = str(diagnostics.get("status"))
    worker = diagnostics.get("worker", {})
    line = plain(status, f"bold {style_of(status)}").append(f"  {url}", "default")
    line.append(f"  up {duration(diagnostics.get('uptime_seconds', 0))}", "default")
    return line.append(plain(f"  worker {worker.get('pid', '?')}", "dim"))


def _reasons(diagnostics: dict[str, Any]) -> Text:
    return plain("; ".join(map(str, diagnostics.get("reasons", ()))), "yellow")


def _gauges(trail: Trail, width: int, dim: bool) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(width=9, style="dim")
    table.add_column(width=9, justify="right", style="dim" if dim else "bold")
    table.add_column()
    history = list(trail.figures)
    shown = next((figures for figures in reversed(history) if figures != Figures()), Figures())
    for name, label, text in _GAUGES:
        value = getattr(shown, name)
        bars = sparkline([getattr(figures, name) for figures in history], width)
        table.add_row(label, "-" if value is None else text(value), Text(bars, "dim" if dim else "cyan"))
    return table


def _endpoints(diagnostics: dict[str, Any], limit: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=False)
    table.add_column("endpoints by load", no_wrap=True, overflow="ellipsis", max_width=40)
    for heading in ("load", "calls", "avg", "p95", "p99", "errors"):
        table.add_column(heading, justify="right", no_wrap=True)
    ranked = busiest(diagnostics)
    for route, figures, share in ranked[:limit]:
        errors = figures.get("error_rate") or 0.0
        table.add_row(
            plain(route),
            f"{share:.0f} %",
            f"{figures.get('call_count', 0)}",
            milliseconds(figures.get("avg_time")),
            milliseconds(figures.get("p95_time")),
            milliseconds(figures.get("p99_time")),
            Text(f"{errors:.1f} %", "red" if errors else "default"),
        )
    if len(ranked) > limit:
        table.add_row(Text(f"and {len(ranked) - limit} more", "dim"))
    return table


def _alerts(refresh: Refresh, selected: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("", "alert", "state", "since (UTC)", "value", "message"):
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    choices = refresh.mutable_types
    chosen = choices[selected % len(choices)] if choices else None
    shown: set[str] = set()
    for alert in refresh.firing or ():
        kind, severity = str(alert.get("type")), str(alert.get("severity"))
        mark = ">" if kind == chosen and kind not in shown else " "
        shown.add(kind)
        state = "muted" if alert.get("muted") or kind in refresh.muted else str(alert.get("state", "firing"))
        table.add_row(
            mark,
            plain(_called(kind, str(alert.get("rule") or "")), style_of(severity)),
            plain("inhibited" if alert.get("inhibited") else state),
            plain(str(alert.get("since", ""))[11:19]),
            _value(alert),
            plain(alert.get("message", "")),
        )
    for kind in (one for one in choices if one not in shown):
        until = refresh.muted.get(kind)
        state = f"muted until {until[11:16]} UTC" if until else "recent"
        table.add_row(">" if kind == chosen else " ", plain(title(kind)), plain(state), "", "", "")
    if not choices:
        table.add_row(" ", Text("none", "green"), "", "", "", "")
    return table


def _called(kind: str, rule: str) -> str:
    return title(kind) if rule in ("", kind) else rule


def _value(alert: dict[str, Any]) -> Text:
    value, threshold = alert.get("value"), alert.get("threshold")
    if not isinstance(value, int | float):
        return Text("")
    return Text(f"{value:.4g} (limit {threshold:g})" if isinstance(threshold, int | float) else f"{value:.4g}")
