"""The words of a notification: what every channel that people read says, each in its own markup."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from textwrap import dedent
from typing import Any

from otel_monitoring.events import AlertEvent, AlertType, Notification, Status

EVENTS_SHOWN = 20
"""How many events of one notification are spelt out."""

_DETAILS_SHOWN = 20
_FACT_LENGTH = 1500
_LIST_LENGTH = 80
_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def one_line(text: str, limit: int = 500) -> str:
    """`text` without line breaks, control characters and halves of surrogate pairs, at most `limit` characters."""
    return clipped(printable(_BREAKS.sub(" ", text)).strip(), limit)


def printable(text: str) -> str:
    """`text` with its line breaks and tabs, without what no encoder takes and what hides or reverses text."""
    return _UNPRINTABLE.sub("", text)


def clipped(text: str, limit: int) -> str:
    """At most `limit` characters of `text`, an ellipsis in the place of the rest."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def tail(text: str, limit: int) -> str:
    """`clipped`, but of several lines the last ones that fit: a stack's innermost call is the one that matters."""
    if len(text) <= limit or "\n" not in text:
        return clipped(text, limit)
    return "…\n" + text[-(limit - 2) :].partition("\n")[2]


def title(event: AlertEvent) -> str:
    """What the alert is called: its type as documented, or the rule's name where the type says nothing."""
    return one_line(event.rule, 100) if event.type is AlertType.CUSTOM and event.rule else event.type.name


def headline(event: AlertEvent) -> str:
    """State, name and message in one line."""
    state = "RESOLVED" if event.status is Status.RESOLVED else event.severity.value.upper()
    return f"{state} {title(event)}: {one_line(event.message)}"


def source(notification: Notification) -> str:
    """`service/environment`, or the service alone."""
    parts = (notification.service, notification.environment)
    return "/".join(one_line(part, 60) for part in parts if part)


def summary(notification: Notification) -> str:
    """The notification in one line: the alert itself, or how many there are and which."""
    events = notification.events
    if len(events) == 1:
        return headline(events[0])
    firing = sum(event.status is Status.FIRING for event in events)
    counts = {"firing": firing, "resolved": len(events) - firing}
    names = dict.fromkeys(title(event) for event in events)
    return (
        f"{', '.join(f'{count} {state}' for state, count in counts.items() if count)}: {clipped(', '.join(names), 200)}"
    )


def subject(notification: Notification) -> str:
    """The same for the firing and the end of an incident: mail programs put equal subjects into one conversation.

    Of several events the first of the highest severity gives its name.
    """
    event = leading(notification)
    labels = ", ".join(f"{key}={value}" for key, value in sorted(event.labels.items()))
    return one_line(f"[{source(notification)}] {title(event)}{f' ({labels})' if labels else ''}", 150)


def leading(notification: Notification) -> AlertEvent:
    """The event a notification is named after: the first of the highest severity among what fires, else among all."""
    severity, status = notification.severity, notification.status
    return next(event for event in notification.events if event.severity is severity and event.status is status)


def facts(event: AlertEvent) -> Iterator[tuple[str, str]]:
    """Name and text of everything known about an alert beside its headline; texts may have several lines.

    The details `value` and `threshold` come first and together.
    """
    since = event.since if event.since is not None else event.time
    yield "Since", moment(since)
    if event.status is Status.RESOLVED:
        yield "Over", f"{moment(event.time)}, after {duration(event.time - since)}"
    details = dict(event.details)
    if "value" in details and "threshold" in details:
        yield "Value", f"{_text(details.pop('value'))} (threshold {_text(details.pop('threshold'))})"
    named: Mapping[str, Any] = {**event.labels, **details}
    for key, value in list(named.items())[:_DETAILS_SHOWN]:
        yield one_line(str(key), 60), _text(value)
    if len(named) > _DETAILS_SHOWN:
        yield "…", f"{len(named) - _DETAILS_SHOWN} more"
    if event.trace_id:
        yield "Trace", one_line(event.trace_id, 64)


def plain(event: AlertEvent) -> str:
    """An event as a paragraph of plain text."""
    lines = [headline(event), *(f"  {name}:{_indented(text)}" for name, text in facts(event))]
    if event.runbook:
        lines.append(f"  Runbook: {one_line(event.runbook)}")
    return "\n".join(lines)


def link(url: str) -> str:
    """`url` where it may be followed from a message, else nothing: `javascript:` and its like are text."""
    return url if re.match(r"https?://[^\s\"'<>|\x00-\x20]{1,2000}\Z", url) else ""


def moment(unix_seconds: float) -> str:
    """A moment as people read it, in UTC to the second."""
    return datetime.fromtimestamp(unix_seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def duration(seconds: float) -> str:
    """A time span in its two largest units: `45 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    rest = max(0, round(seconds))
    units = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    parts = []
    for name, size in units:
        count, rest = divmod(rest, size)
        parts.append((count, name))
    first = next((i for i, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {name}" for count, name in parts[first : first + 2] if count) or "0 s"


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        text = value
    elif isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
        text = ", ".join(value) if sum(map(len, value)) < _LIST_LENGTH else "\n".join(value)
    else:
        text = json.dumps(value, default=str, ensure_ascii=False, skipkeys=True)
    return tail(dedent(printable(text).strip("\n")).strip(), _FACT_LENGTH)


def _indented(text: str) -> str:
    """Further lines begin under the first."""
    return f" {text}" if "\n" not in text else "\n" + "\n".join(f"    {line}" for line in text.splitlines())
