"""Values as text for the terminal."""

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_STYLES: Final = {
    **dict.fromkeys(("healthy", "alive", "ready", "ok", "info"), "green"),
    **dict.fromkeys(("degraded", "warning", "unknown"), "yellow"),
    **dict.fromkeys(("unhealthy", "not ready", "failed", "error"), "red"),
    "critical": "bold red",
    "skipped": "dim",
}
_SPARKLINE_BARS: Final = "▁▂▃▄▅▆▇█"


# Rich takes 25 ms to load, so it is imported where something is shown: a probe shows nothing in colour.


def console() -> "Console":
    """A console that prints text as it is, without markup, emoji and highlighting."""
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False, soft_wrap=True)


def style_of(status: str) -> str:
    """The colour of a status or severity."""
    return _STYLES.get(status, "default")


def safe_text(text: object, style: str = "default") -> "Text":
    """`one_line` of text from outside, in a colour."""
    from rich.text import Text

    return Text(one_line(text), style)


def one_line(text: object) -> str:
    """Text from outside on one line, with `·` for control characters, which could steer the terminal."""
    return "".join(c if c.isprintable() else "·" for c in str(text))


def type_name(alert_type: str) -> str:
    """An alert type as it is documented: `DATABASE_DOWN` for the value `database_down`."""
    return alert_type.upper()


def rounded_duration(seconds: float) -> str:
    """A duration in seconds, rounded down to its larger units: `12 s`, `3 min`, `5 h 20 min`, `4 d 2 h`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def time_of_day(at: float) -> str:
    """Unix seconds as text: `16:01:35 UTC`."""
    return datetime.fromtimestamp(at, timezone.utc).strftime("%H:%M:%S UTC")


def milliseconds(seconds: float | None) -> str:
    """Seconds as text: `12 ms`, `1.20 s`; a dash for None."""
    if seconds is None:
        return "-"
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


def sparkline(values: Sequence[float | None], width: int) -> str:
    """The last `width` values as bars between 0 and their maximum; a blank for None."""
    bars, shown = _SPARKLINE_BARS, list(values)[-width:]
    top = max((value for value in shown if value is not None), default=0.0)
    return "".join(
        " " if value is None else bars[round(value / top * (len(bars) - 1))] if top > 0 else bars[0] for value in shown
    ).rjust(width)
