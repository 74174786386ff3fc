"""The evidence of an alert as texts for people; each channel adds its own markup."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from otel_monitoring.alerts.model import AlertEvent
from otel_monitoring.alerts.notify.channels import text

_BARS = "▁▂▃▄▅▆▇█"
_GAP = "·"
ALSO, COURSE, TRACES, PAGE = "Also", "Course", "Traces", "Status page"
"""The names of facts that channels show in a way of their own."""
_LINE = 300


class Link(NamedTuple):
    """A text that may be a link.

    Attributes:
        text: The text.
        url: Where it leads, or empty.
    """

    text: str
    url: str = ""


def course(event: AlertEvent) -> list[float | None]:
    """The values of the last half hour, one for each minute, and the present one; empty: they are not known."""
    found = _mapping(event.evidence.get("course")).get("values")
    values = found if isinstance(found, list) else []
    return [float(value) if isinstance(value, int | float) and math.isfinite(value) else None for value in values]


def heights(values: Sequence[float | None], most: int) -> list[int | None]:
    """The height of each bar, from 1 to `most`; None where there is no value. The bars begin at 0."""
    known = [value for value in values if value is not None]
    low, high = min([0.0, *known]), max([0.0, *known])
    size = high - low
    return [None if value is None else 1 + round((most - 1) * (value - low) / size) if size else 1 for value in values]


def sparkline(values: Sequence[float | None]) -> str:
    """The values as bars of text."""
    return "".join(_GAP if height is None else _BARS[height - 1] for height in heights(values, len(_BARS)))


def summary_of(values: Sequence[float | None]) -> str:
    """`0.2 → 34.5 in 30 min`: the median of the values, and the last one."""
    known = sorted(value for value in values[:-1] if value is not None)
    last = values[-1] if values else None
    usual = f"{known[len(known) // 2]:.4g}" if known else "?"
    return f"{usual} → {last:.4g} in {len(values) - 1} min" if last is not None else f"{usual} in {len(values) - 1} min"


def facts(event: AlertEvent) -> Iterator[tuple[str, str]]:
    """What changed, as pairs of name and text, without the traces and links; texts may have several lines."""
    if values := course(event):
        yield COURSE, f"{sparkline(values)}  {summary_of(values)}"
    yield from findings(event)


def findings(event: AlertEvent) -> Iterator[tuple[str, str]]:
    """The facts after the course."""
    evidence = event.evidence
    texts = [text.one_line(str(one.get("text", "")), _LINE) for one in _mappings(evidence.get("culprits"))]
    if texts:
        yield "Stands out", texts[0]
    if texts[1:]:
        yield ALSO, "\n".join(texts[1:])
    if exception := _mapping(evidence.get("exception")):
        where = " in ".join(str(exception[key]) for key in ("place",) if exception.get(key))
        message = str(exception.get("message", ""))
        parts = [message or str(exception.get("type", "")), f"({where})" if where else "", _asked(exception)]
        yield "Exception", text.one_line(" ".join(filter(None, parts)), _LINE)
    if release := _mapping(evidence.get("release")):
        at = str(release.get("at", ""))[:19].replace("T", " ")
        yield "Release", text.one_line(f"{release.get('version')} at {at} UTC", _LINE)


def traces(event: AlertEvent) -> list[Link]:
    """The traces to look at, each with what it is; most severe first."""
    return [
        Link(text.one_line(_trace(one), _LINE), text.link(str(one.get("url", ""))))
        for one in _mappings(event.evidence.get("traces"))
    ]


def page(event: AlertEvent) -> str:
    """The link to the status page, or empty."""
    return text.link(str(event.evidence.get("page_url", "")))


def plain_lines(event: AlertEvent) -> Iterator[tuple[str, str]]:
    """All of it as pairs of name and text, for plain text."""
    yield from facts(event)
    lines = [f"{one.text}  {one.url}".rstrip() for one in traces(event)]
    if lines:
        yield TRACES, "\n".join(lines)
    if url := page(event):
        yield PAGE, url


def _trace(one: Mapping[str, Any]) -> str:
    seconds, status = one.get("seconds"), one.get("status")
    took = f"{seconds:.3g} s" if isinstance(seconds, int | float) else ""
    return " · ".join(str(part) for part in (one.get("trace_id"), took, one.get("request"), status) if part)


def _asked(exception: Mapping[str, Any]) -> str:
    return f"in {exception['request']}" if exception.get("request") else ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []
