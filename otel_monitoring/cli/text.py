"""How values read in a terminal."""

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Final

from rich.console import Console
from rich.text import Text

_STYLES: Final = {
    **dict.fromkeys(("healthy", "alive", "ready", "ok", "info"), "green"),
    **dict.fromkeys(("degraded", "warning", "unknown"), "yellow"),
    **dict.fromkeys(("unhealthy", "not ready", "failed", "error"), "red"),
    "critical": "bold red",
    "skipped": "dim",
}
_BARS: Final = "▁▂▃▄▅▆▇█"


def console() -> Console:
    """A console that prints text as it is: no markup, no emoji, no guessing at numbers to colour."""
    return Console(markup=False, emoji=False, highlight=False, soft_wrap=True)


def style_of(status: str) -> str:
    """The colour of a status or severity."""
    return _STYLES.get(status, "default")


def plain(text: object, style: str = "default") -> Text:
    """Text from outside: one line, and nothing in it that could steer the terminal."""
    return Text("".join(c if c.isprintable() else "·" for c in str(text)), style)


def type_name(alert_type: str) -> str:
    """An alert type as it is documented: `DATABASE_DOWN` for the value `database_down`."""
    return alert_type.upper()


def duration(seconds: float) -> str:
    """`12 s`, `3 min`, `5 h 20 min`, `4 d 2 h`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def time_of_day(at: float) -> str:
    """Of Unix seconds: `16:01:35 UTC`."""
    return datetime.fromtimestamp(at, timezone.utc).strftime("%H:%M:%S UTC")


def milliseconds(seconds: float | None) -> str:
    """`12 ms`, `1.20 s`; a dash for none."""
    if seconds is None:
        return "-"
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


def sparkline(values: Sequence[float | None], width: int) -> str:
    """The last `width` values as bars from 0 to the greatest; a blank where there is none."""
    shown = list(values)[-width:]
    top = max((value for value in shown if value is not None), default=0.0)
    return "".join(
        " " if value is None else _BARS[round(value / top * (len(_BARS) - 1))] if top > 0 else _BARS[0]
        for value in shown
    ).rjust(width)
