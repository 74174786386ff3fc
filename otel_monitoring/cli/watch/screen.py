"""Draws the picture of `watch`: headline, gauges with sparklines, endpoints, alerts."""

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.table import Table
from rich.text import Text

from otel_monitoring.cli.terminal import (
    milliseconds,
    rounded_duration,
    safe_text,
    sparkline,
    style_of,
    time_of_day,
    type_name,
)
from otel_monitoring.cli.watch.poll import Refresh, RefreshFigures, RefreshHistory, busiest

_Gauge = tuple[str, str, Callable[[Any], str]]
_NOW: Final[tuple[_Gauge, ...]] = (
    ("request_rate", "requests", lambda value: f"{value:.1f}/s"),
    ("cpu_percent", "CPU", lambda value: f"{value:.0f} %"),
    ("memory_percent", "memory", lambda value: f"{value:.0f} %"),
    ("loop_lag", "loop lag", milliseconds),
    ("ping_ms", "database", lambda value: milliseconds(value / 1000)),
)
_OF_THE_WINDOW: Final[tuple[_Gauge, ...]] = (
    ("error_rate", "errors", lambda value: f"{value:.1f} %"),
    ("p50", "p50", milliseconds),
    ("p95", "p95", milliseconds),
    ("p99", "p99", milliseconds),
)
_GAUGE_LINES: Final = len(_NOW) + len(_OF_THE_WINDOW) + 2
_FOOT_LINES: Final = 2
_MIN_ENDPOINTS: Final = 3
_MIN_ROUTE: Final = 20

_Column = tuple[str, int, Callable[[dict[str, Any], float], str]]
_COLUMNS: Final[tuple[_Column, ...]] = (
    ("load", 5, lambda _, share: f"{share:.0f} %"),
    ("calls", 7, lambda figures, _: f"{figures.get('call_count', 0)}"),
    ("avg", 7, lambda figures, _: milliseconds(figures.get("avg_time"))),
    ("p95", 7, lambda figures, _: milliseconds(figures.get("p95_time"))),
    ("p99", 7, lambda figures, _: milliseconds(figures.get("p99_time"))),
    ("errors", 7, lambda figures, _: f"{figures.get('error_rate') or 0:.1f} %"),
)
_OPTIONAL_COLUMNS: Final = ("avg", "p99", "calls", "load", "errors")
"""Columns that a narrow terminal lacks, in the order in which they go."""
_KEYS: Final = "q quit  ↑↓ select  m mute  u unmute"


def full_screen(
    history: RefreshHistory, url: str, *, selected: int, message: str, height: int, width: int, now: float | None = None
) -> RenderableType:
    """The picture for the whole terminal, with a message and the keys at the bottom.

    Args:
        history: The refreshes to show.
        url: The service's URL.
        selected: Index of the selected alert type among those that can be muted.
        message: The result of the last key.
        height: Lines of the terminal; endpoints and alerts are left out to fit.
        width: Columns of the terminal.
        now: Unix seconds; the current time when not given.
    """
    whole, picture, foot = Layout(), Layout(), Layout(size=_FOOT_LINES)
    picture.update(draw(history, url, selected=selected, height=height - _FOOT_LINES, width=width, now=now))
    foot.update(Group(_line(safe_text(message, "bold")), _line(Text(_KEYS, "dim"))))
    whole.split_column(picture, foot)
    return whole


def draw(
    history: RefreshHistory, url: str, *, selected: int | None, height: int, width: int, now: float | None = None
) -> RenderableType:
    """The picture alone, with the arguments of `full_screen`; `selected` is None where there are no keys."""
    now = time.time() if now is None else now
    parts: list[RenderableType] = [_headline(history, url, now), *_workers(history, now)]
    if history.last is None or history.last.diagnostics is None:
        return Group(*parts)
    diagnostics = history.last.diagnostics
    if reasons := _reasons(diagnostics):
        parts.append(reasons)
    room = height - len(parts) - 1 - _GAUGE_LINES
    alerts = _alerts(history.last, selected, max(4, room - _MIN_ENDPOINTS - 2))
    parts += [
        _gauges(history, diagnostics, max(8, min(60, width - 27))),
        _endpoints(diagnostics, max(_MIN_ENDPOINTS, room - 2 - len(alerts)), width),
        *alerts,
    ]
    return Group(*parts)


def _line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _headline(history: RefreshHistory, url: str, now: float) -> Text:
    latest, last = history.latest, history.last
    if latest is None:
        return safe_text(f"{url}  asking …", "dim")
    if history.lost_at is not None:
        since = rounded_duration(now - history.lost_at)
        what = "no access" if latest.denied else "no answer"
        return (
            safe_text(f"{what} for {since}", "bold red").append(f"  {url}  ", "default").append(safe_text(latest.error))
        )
    diagnostics = last.diagnostics or {} if last is not None else {}
    status = str(diagnostics.get("status"))
    line = safe_text(status, f"bold {style_of(status)}").append(f"  {url}", "default")
    line.append(f"  up {rounded_duration(diagnostics.get('uptime_seconds', 0))}", "default")
    return line.append(safe_text(f"  worker {history.worker}", "dim"))


def _workers(history: RefreshHistory, now: float) -> Iterator[Text]:
    """Lines about workers that no longer answer and whose figures are shown."""
    if history.lost_at is not None and history.last is not None:
        at = time_of_day(history.last.at)
        yield safe_text(f"worker {history.worker} answered last at {at}: its figures stay", "yellow")
    for gone in history.gone:
        yield safe_text(f"worker {gone.pid} is gone: it answered last {rounded_duration(now - gone.at)} ago", "yellow")


def _reasons(diagnostics: dict[str, Any]) -> Text:
    return _line(safe_text("; ".join(map(str, diagnostics.get("reasons", ()))), "yellow"))


def _gauges(history: RefreshHistory, diagnostics: dict[str, Any], width: int) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(width=14, style="dim", no_wrap=True)
    table.add_column(width=8, justify="right", style="bold" if history.lost_at is None else "dim", no_wrap=True)
    table.add_column(no_wrap=True)
    shown = next((figures for figures in reversed(history.figures) if figures != RefreshFigures()), RefreshFigures())
    seconds = diagnostics.get("performance", {}).get("window", {}).get("seconds")
    window = f"last {rounded_duration(seconds)}:" if isinstance(seconds, int | float) else "lately:"
    for heading, gauges in (("now:", _NOW), (window, _OF_THE_WINDOW)):
        table.add_row(heading)
        for name, label, text in gauges:
            value = getattr(shown, name)
            bars = sparkline([getattr(figures, name) for figures in history.figures], width)
            style = "dim" if history.lost_at is not None else "cyan"
            table.add_row(f"  {label}", "-" if value is None else text(value), Text(bars, style))
    return table


def _endpoints(diagnostics: dict[str, Any], limit: int, width: int) -> Table:
    columns = list(_COLUMNS)
    for name in _OPTIONAL_COLUMNS:
        if _route_width(columns, width) < _MIN_ROUTE:
            columns = [column for column in columns if column[0] != name]
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column(
        "since start, by load", width=min(50, _route_width(columns, width)), no_wrap=True, overflow="ellipsis"
    )
    for heading, size, _ in columns:
        table.add_column(heading, width=size, justify="right", no_wrap=True)
    ranked = busiest(diagnostics)
    for route, figures, share in ranked[:limit]:
        cells = (Text(text(figures, share)) for _, _, text in columns)
        table.add_row(safe_text(route), *cells, style="red" if figures.get("error_rate") else "")
    if len(ranked) > limit:
        table.add_row(Text(f"and {len(ranked) - limit} more", "dim"))
    return table


def _route_width(columns: list[_Column], width: int) -> int:
    return width - 2 - sum(size + 2 for _, size, _ in columns)


def _alerts(refresh: Refresh, selected: int | None, limit: int) -> list[Text]:
    """At most `limit` lines: two for each alert that fires, one for each further type that can be muted."""
    choices = refresh.mutable_types
    chosen = choices[selected % len(choices)] if choices and selected is not None else None
    entries: list[tuple[bool, list[Text]]] = []
    shown: set[str] = set()
    for alert in refresh.firing or ():
        kind = str(alert.get("type"))
        is_chosen = kind == chosen and kind not in shown
        shown.add(kind)
        entries.append((is_chosen, _firing(alert, refresh.muted, is_chosen)))
    for kind in (one for one in choices if one not in shown):
        until = refresh.muted.get(kind)
        state = f"muted until {until[11:16]} UTC" if until else "recent"
        entries.append((kind == chosen, [_line(safe_text(f"{_mark(kind == chosen)}{type_name(kind)}  {state}"))]))
    lines = [_line(Text("alerts:", "dim") if entries else Text("no alerts", "green"))]
    first = max(0, next((index for index, (is_chosen, _) in enumerate(entries) if is_chosen), 0) - 1)
    left = len(entries)
    for _, entry in entries[first:]:
        if len(lines) + len(entry) >= limit and left > 1:
            break
        lines += entry
        left -= 1
    return [*lines, _line(Text(f"  and {left} more", "dim"))] if left else lines


def _firing(alert: dict[str, Any], muted: dict[str, str], is_chosen: bool) -> list[Text]:
    kind, rule, severity = (str(alert.get(key) or "") for key in ("type", "rule", "severity"))
    state = "muted" if alert.get("muted") or kind in muted else str(alert.get("state", "firing"))
    line = Text(_mark(is_chosen)).append_text(
        safe_text(type_name(kind) if rule in ("", kind) else rule, style_of(severity))
    )
    state = "inhibited" if alert.get("inhibited") else state
    line.append_text(safe_text(f"  {state} since {str(alert.get('since', ''))[11:19]} UTC"))
    line.append(_value(alert))
    return [_line(line), _line(safe_text(f"    {alert.get('message', '')}"))]


def _mark(is_chosen: bool) -> str:
    return "> " if is_chosen else "  "


def _value(alert: dict[str, Any]) -> str:
    value, threshold = alert.get("value"), alert.get("threshold")
    if not isinstance(value, int | float):
        return ""
    return f"  {value:.4g} (limit {threshold:g})" if isinstance(threshold, int | float) else f"  {value:.4g}"
