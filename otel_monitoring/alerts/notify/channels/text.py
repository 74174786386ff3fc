"""The texts of a notification, which the channels for people share; each adds its own markup."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from textwrap import dedent
from typing import Any

from otel_monitoring import redact
from otel_monitoring.alerts import model
from otel_monitoring.alerts.model import AlertEvent, AlertType, Notification, Status
from otel_monitoring.alerts.model import duration as duration
from otel_monitoring.config import template
from otel_monitoring.guard import fail_open
from otel_monitoring.redact.json_value import jsonable
from otel_monitoring.timestamps import moment_of

EVENTS_SHOWN = 20
"""How many events of a notification are shown in full."""

_filling = fail_open("filling the title of a message")
_MESSAGES_SHOWN = 8
_MESSAGE_LENGTH = 100
_DETAILS_SHOWN = 20
_FACT_LENGTH = 1500
_LIST_LENGTH = 80
_SHOWN_DURATION_SECONDS = 60.0
_BOOLEAN_TYPES = frozenset({AlertType.DATABASE_DOWN, AlertType.DATABASE_ERROR, AlertType.CHECK_FAILED})
"""Alert types whose value is 0 or 1, which the message already says."""


def one_line(text: str, limit: int = 500) -> str:
    """`text` as one printable line of at most `limit` characters; runs of blanks become one blank."""
    return clipped(" ".join(redact.printable(text).split()), limit)


def printable_lines(text: str) -> str:
    """`text` with its line breaks, without characters that no encoder accepts and those that hide or reverse text."""
    return "\n".join([redact.printable(line) for line in text.splitlines()])


def clipped(text: str, limit: int) -> str:
    """`text` cut to `limit` characters, the last one being an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def tail(text: str, limit: int) -> str:
    """The last lines of `text` that fit into `limit` characters, because the last line of a stack matters most.

    A single line is `clipped`.
    """
    if len(text) <= limit or "\n" not in text:
        return clipped(text, limit)
    return "…\n" + text[-(limit - 2) :].partition("\n")[2]


def title(event: AlertEvent) -> str:
    """The alert's name for people: see `model.title`."""
    return one_line(model.title(event.type.value, event.rule), 100)


def headline(event: AlertEvent) -> str:
    """Severity, name, state and message in one line."""
    return f"{event.severity.value.upper()} {title(event)} {event.status.value}: {one_line(event.message)}"


def source(notification: Notification) -> str:
    """`service/environment`, or the service alone."""
    parts = (notification.service, notification.environment)
    return "/".join(one_line(part, 60) for part in parts if part)


def origin(notification: Notification) -> list[tuple[str, str]]:
    """What is known about the origin, as pairs of name and text, for the end of every message."""
    found = {
        "Service": notification.service,
        "Environment": notification.environment,
        "Version": notification.version,
        "Host": notification.host,
        "URL": link(notification.url),
    }
    return [(name, one_line(text, 300)) for name, text in found.items() if text]


def ranked(notification: Notification) -> list[AlertEvent]:
    """The events: firing before acknowledged before resolved ones, the most severe first, else in order of time."""
    return sorted(notification.events, key=_rank)


def shown(notification: Notification) -> tuple[list[AlertEvent], int]:
    """The events to show in full, and how many more alerts there are.

    More than `EVENTS_SHOWN` events are grouped by name; one event then stands for each group.
    """
    events = ranked(notification)
    notices = [event for event in events if event.is_overflow_notice]
    groups = [[event] for event in events if not event.is_overflow_notice]
    room = EVENTS_SHOWN - len(notices)
    if len(groups) <= room:
        return [event for (event,) in groups] + notices, 0
    left_out = _left_out(notices)
    by_name: dict[tuple[str, Status], list[AlertEvent]] = {}
    for (event,) in groups:
        by_name.setdefault((title(event), event.status), []).append(event)
    groups = sorted(by_name.values(), key=lambda group: _rank(group[0]))
    digests = [_digest(group, left_out[title(group[0])]) for group in groups[:room]]
    return digests + notices, sum(len(group) for group in groups[room:])


def _rank(event: AlertEvent) -> tuple[int, int]:
    return tuple(Status).index(event.status), -event.severity.rank


def _digest(group: Sequence[AlertEvent], left_out: int) -> AlertEvent:
    """One event for a group of one name, the first of which is the most severe: the count and the first messages.

    Args:
        group: At least one event.
        left_out: How many more of this name were left out of a full outbox.
    """
    first, counted = group[0], len(group) + (left_out if group[0].status is Status.FIRING else 0)
    if counted == 1:
        return first
    messages = list(dict.fromkeys(one_line(event.message, _MESSAGE_LENGTH) for event in group))[:_MESSAGES_SHOWN]
    more = counted - len(messages)
    if more:
        messages.append(f"… and {more} more")
    return replace(
        first,
        time=max(event.time for event in group),
        since=min(event.since if event.since is not None else event.time for event in group),
        message=f"{counted} alerts",
        labels={},
        details={"messages": "\n".join(messages), **first.labels, **first.details},
        trace_id="",
    )


def _left_out(notices: Iterable[AlertEvent]) -> Counter[str]:
    """How many events of each name were left out of a full outbox."""
    counts: Counter[str] = Counter()
    for notice in notices:
        counts.update(notice.details.get("types", {}))
    return counts


def summary(notification: Notification) -> str:
    """The notification in one line: the headline of a single event, or the number and names of several."""
    return headline(notification.events[0]) if len(notification.events) == 1 else _counted(notification)


def first_line(notification: Notification) -> str:
    """The first line of a message: the configured title, else the source and the summary."""
    return _title(notification) or f"[{source(notification)}] {summary(notification)}"


def _title(notification: Notification) -> str:
    """The configured title; empty without one, or where it cannot be filled in."""
    if not notification.title:
        return ""
    events = ranked(notification)
    event = events[0]
    several = len(events) > 1
    labels = ", ".join(f"{key}={value}" for key, value in sorted(event.labels.items()))
    values = {
        "service": notification.service,
        "environment": notification.environment,
        "version": notification.version,
        "host": notification.host,
        "url": notification.url,
        "severity": notification.severity.value,
        "status": notification.status.value,
        "name": ", ".join(dict.fromkeys(map(title, events))),
        "type": ", ".join(dict.fromkeys(one.type.value for one in events)),
        "rule": ", ".join(dict.fromkeys(one.rule for one in events if one.rule)),
        "labels": "" if several else labels,
        "message": _counted(notification) if several else event.message,
        "summary": summary(notification),
    }
    with _filling:
        return one_line(template.fill(notification.title, values), 300)
    return ""


def subject(notification: Notification) -> str:
    """The subject of a mail: the configured title; else source, severity, name and status of an event, or a summary.

    Ours contains the message only for alerts whose name says nothing: a subject that changes breaks the thread.
    """
    if own := _title(notification):
        return clipped(own, 150)
    event = notification.events[0]
    labels = ", ".join(f"{key}={value}" for key, value in sorted(event.labels.items()))
    state = f"{event.status.value}, flapping" if _flaps(event) else event.status.value
    about = f"{event.severity.value.upper()} {title(event)} {state}{f' ({labels})' if labels else ''}"
    if event.type is AlertType.CUSTOM and not event.rule:
        about = f"{about}: {event.message}"
    if len(notification.events) > 1:
        about = _counted(notification)
    return one_line(f"[{source(notification)}] {about}", 150)


def _counted(notification: Notification) -> str:
    """The summary of several events: the highest severity, the counts, and the names."""
    events = ranked(notification)
    left_out = _left_out(event for event in events if event.is_overflow_notice)
    events = [event for event in events if not event.is_overflow_notice] or events
    counts = Counter(event.status for event in events)
    counts[Status.FIRING] += left_out.total()
    states = ", ".join(f"{counts[status]} {status.value}" for status in Status if counts[status])
    titles = [f"{title(event)} (flapping)" if _flaps(event) else title(event) for event in events]
    names = ", ".join(dict.fromkeys([*titles, *left_out]))
    return f"{notification.severity.value.upper()} {states}: {clipped(names, 200)}"


def _flaps(event: AlertEvent) -> bool:
    """Whether it is a firing event of a flapping alert: only those have `times` in their details."""
    return event.status is Status.FIRING and bool(event.rule) and "times" in event.details


def facts(event: AlertEvent, changed: Iterable[tuple[str, str]] = ()) -> Iterator[tuple[str, str]]:
    """What is known about an event besides its headline, as pairs of name and text.

    Texts may have several lines. Times and values come first, then what `changed`.
    """
    details = dict(event.details)
    since = event.since if event.since is not None else event.time
    lasted = event.time - since
    if event.status is Status.RESOLVED:
        yield "Since", moment(since)
        yield "Resolved", f"{moment(event.time)}, after {duration(lasted)}"
        details.pop("duration_seconds", None)
    else:
        yield "Since", f"{moment(since)}{f', for {duration(lasted)}' if lasted >= _SHOWN_DURATION_SECONDS else ''}"
    if event.acknowledged is not None:
        who = one_line(event.acknowledged.author, 200) or "nobody"
        why = f": {one_line(event.acknowledged.reason)}" if event.acknowledged.reason else ""
        yield "Acknowledged", f"by {who}{why}"
    yield from _measured(details, event.type)
    yield from changed
    if event.rule and event.rule not in (title(event), event.type.value):
        yield "Rule", one_line(event.rule, 100)
    named = [*event.labels.items(), *((key, value) for key, value in details.items() if event.labels.get(key) != value)]
    for key, value in named[:_DETAILS_SHOWN]:
        yield one_line(str(key), 60), _text(value)
    if len(named) > _DETAILS_SHOWN:
        yield "…", f"{len(named) - _DETAILS_SHOWN} more"
    if event.trace_id:
        yield "Trace", one_line(event.trace_id, 64)


def _measured(details: dict[str, Any], kind: AlertType) -> Iterator[tuple[str, str]]:
    """The facts of `value`, `threshold`, `worst` and `value_now`, which are removed from `details`."""
    names = ("value", "threshold", "worst", "value_now")
    value, threshold, worst, now = (details.pop(name, None) for name in names)
    if value in (0, 1) and (threshold == 1 or kind in _BOOLEAN_TYPES):
        return
    if value is not None:
        yield "Value", f"{_text(value)} (threshold {_text(threshold)})" if threshold is not None else _text(value)
    if worst is not None:
        yield "Worst", _text(worst)
    if now is not None:
        yield "Now", _text(now)


def plain_text(event: AlertEvent, changed: Iterable[tuple[str, str]] = ()) -> str:
    """An event as a paragraph of plain text, with what `changed`."""
    lines = [headline(event), *(f"  {name}:{_indented(text)}" for name, text in facts(event, changed))]
    if event.runbook:
        lines.append(f"  Runbook: {one_line(event.runbook)}")
    return "\n".join(lines)


def link(url: str) -> str:
    """`url` if it is an http or https URL, which a message may link, else empty."""
    return url if re.match(r"https?://[^\s\"'<>|\x00-\x20]{1,2000}\Z", url) else ""


def moment(unix_seconds: float) -> str:
    """A time for people, in UTC to the second."""
    return moment_of(unix_seconds).strftime("%Y-%m-%d %H:%M:%S UTC")


def _text(value: object) -> str:
    """The value of a detail for people; its lines lose their common indentation."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        text = value
    elif isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
        text = ", ".join(value) if sum(map(len, value)) < _LIST_LENGTH else "\n".join(value)
    else:
        text = json.dumps(jsonable(value), ensure_ascii=False)
    return tail(dedent(printable_lines(text).strip("\n")).strip(), _FACT_LENGTH)


def origin_lines(notification: Notification) -> str:
    """`origin` as lines of plain text."""
    return "\n".join(f"{name}: {value}" for name, value in origin(notification))


def _indented(text: str) -> str:
    """`text` after its name: on the same line, or as an indented block of several lines."""
    return f" {text}" if "\n" not in text else "\n" + "\n".join(f"    {line}" for line in text.splitlines())
