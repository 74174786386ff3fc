"""The words of a notification: what every channel that people read says, each in its own markup."""

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
from otel_monitoring.redact.json_value import jsonable
from otel_monitoring.timestamps import moment_of

EVENTS_SHOWN = 20
"""How many events of one notification are spelt out."""

_MESSAGES_SHOWN = 8
_MESSAGE_LENGTH = 100
_DETAILS_SHOWN = 20
_FACT_LENGTH = 1500
_LIST_LENGTH = 80
_LONG = 60.0
_YES_OR_NO = frozenset({AlertType.DATABASE_DOWN, AlertType.DATABASE_ERROR, AlertType.CHECK_FAILED})


def one_line(text: str, limit: int = 500) -> str:
    """`text` as one printable line, blanks that follow each other being one, at most `limit` characters."""
    return clipped(" ".join(redact.printable(text).split()), limit)


def printable(text: str) -> str:
    """`text` with its line breaks, without what no encoder takes and what hides or reverses text."""
    return "\n".join([redact.printable(line) for line in text.splitlines()])


def clipped(text: str, limit: int) -> str:
    """At most `limit` characters of `text`, an ellipsis in the place of the rest."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def tail(text: str, limit: int) -> str:
    """`clipped`, but of several lines the last ones that fit: a stack's innermost call is the one that matters."""
    if len(text) <= limit or "\n" not in text:
        return clipped(text, limit)
    return "…\n" + text[-(limit - 2) :].partition("\n")[2]


def title(event: AlertEvent) -> str:
    """What people call the alert."""
    return one_line(model.title(event.type.value, event.rule), 100)


def headline(event: AlertEvent) -> str:
    """Severity, name, state and message in one line."""
    return f"{event.severity.value.upper()} {title(event)} {event.status.value}: {one_line(event.message)}"


def source(notification: Notification) -> str:
    """`service/environment`, or the service alone."""
    parts = (notification.service, notification.environment)
    return "/".join(one_line(part, 60) for part in parts if part)


def origin(notification: Notification) -> list[tuple[str, str]]:
    """Name and text of what is known about the sender: what every message ends with."""
    found = {
        "Service": notification.service,
        "Environment": notification.environment,
        "Version": notification.version,
        "Host": notification.host,
        "URL": link(notification.url),
    }
    return [(name, one_line(text, 300)) for name, text in found.items() if text]


def ranked(notification: Notification) -> list[AlertEvent]:
    """What fires before what is over, the most urgent first, else as it happened."""
    return sorted(notification.events, key=_place)


def shown(notification: Notification) -> tuple[list[AlertEvent], int]:
    """What is spelt out, and how many more alerts there are.

    Of more than that, those of one name are one: how many, the first messages, and what is known of the first.
    """
    told = ranked(notification)
    notes = [event for event in told if event.is_overflow_notice]
    others = [[event] for event in told if not event.is_overflow_notice]
    room = EVENTS_SHOWN - len(notes)
    if len(others) > room:
        left_out = _left_out(notes)
        groups: dict[tuple[str, Status], list[AlertEvent]] = {}
        for (event,) in others:
            groups.setdefault((title(event), event.status), []).append(event)
        others = sorted(groups.values(), key=lambda group: _place(group[0]))
        spelt = [_digest(group, left_out[title(group[0])]) for group in others[:room]]
    else:
        spelt = [event for (event,) in others]
    return spelt + notes, sum(len(group) for group in others[room:])


def _place(event: AlertEvent) -> tuple[bool, int]:
    return event.status is Status.RESOLVED, -event.severity.rank


def _digest(group: Sequence[AlertEvent], left_out: int) -> AlertEvent:
    """One in the place of several of one name, the first of which is the most urgent."""
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


def _left_out(notes: Iterable[AlertEvent]) -> Counter[str]:
    """How many of each name were left out of a full outbox."""
    counted: Counter[str] = Counter()
    for note in notes:
        counted.update(note.details.get("types", {}))
    return counted


def summary(notification: Notification) -> str:
    """The notification in one line: the alert itself, or how many there are and which."""
    return headline(notification.events[0]) if len(notification.events) == 1 else _counted(notification)


def subject(notification: Notification) -> str:
    """Where, how urgent, what, and whether it fires or flaps; of several alerts how many.

    A type that says nothing is followed by the message; in all others it would tear conversations apart.
    """
    event = notification.events[0]
    labels = ", ".join(f"{key}={value}" for key, value in sorted(event.labels.items()))
    state = f"{event.status.value}, flapping" if _flaps(event) else event.status.value
    what = f"{event.severity.value.upper()} {title(event)} {state}{f' ({labels})' if labels else ''}"
    if event.type is AlertType.CUSTOM and not event.rule:
        what = f"{what}: {event.message}"
    return one_line(
        f"[{source(notification)}] {what if len(notification.events) == 1 else _counted(notification)}", 150
    )


def _counted(notification: Notification) -> str:
    told = ranked(notification)
    left_out = _left_out(event for event in told if event.is_overflow_notice)
    told = [event for event in told if not event.is_overflow_notice] or told
    firing = sum(event.status is Status.FIRING for event in told)
    counts = {"firing": firing + left_out.total(), "resolved": len(told) - firing}
    states = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    names = ", ".join(
        dict.fromkeys([*(f"{title(event)} (flapping)" if _flaps(event) else title(event) for event in told), *left_out])
    )
    return f"{notification.severity.value.upper()} {states}: {clipped(names, 200)}"


def _flaps(event: AlertEvent) -> bool:
    """Whether it fires and is flapping: only then do the details of a rule's alert say how often it began."""
    return event.status is Status.FIRING and bool(event.rule) and "times" in event.details


def facts(event: AlertEvent) -> Iterator[tuple[str, str]]:
    """Name and text of everything known about an alert beside its headline; texts may have several lines.

    How long it lasts and what was measured come first.
    """
    details = dict(event.details)
    since = event.since if event.since is not None else event.time
    lasted = event.time - since
    if event.status is Status.RESOLVED:
        yield "Since", moment(since)
        yield "Resolved", f"{moment(event.time)}, after {duration(lasted)}"
        details.pop("duration_seconds", None)
    else:
        yield "Since", f"{moment(since)}{f', for {duration(lasted)}' if lasted >= _LONG else ''}"
    yield from _measured(details, event.type)
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
    """`value`, `threshold`, `worst` and `value_now`, taken out of `details`; a yes or no is in the message already."""
    names = ("value", "threshold", "worst", "value_now")
    value, threshold, worst, now = (details.pop(name, None) for name in names)
    if value in (0, 1) and (threshold == 1 or kind in _YES_OR_NO):
        return
    if value is not None:
        yield "Value", f"{_text(value)} (threshold {_text(threshold)})" if threshold is not None else _text(value)
    if worst is not None:
        yield "Worst", _text(worst)
    if now is not None:
        yield "Now", _text(now)


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
    return moment_of(unix_seconds).strftime("%Y-%m-%d %H:%M:%S UTC")


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        text = value
    elif isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
        text = ", ".join(value) if sum(map(len, value)) < _LIST_LENGTH else "\n".join(value)
    else:
        text = json.dumps(jsonable(value), ensure_ascii=False)
    return tail(dedent(printable(text).strip("\n")).strip(), _FACT_LENGTH)


def signature(notification: Notification) -> str:
    """`origin` as lines of plain text."""
    return "\n".join(f"{name}: {value}" for name, value in origin(notification))


def _indented(text: str) -> str:
    """Further lines begin under the first."""
    return f" {text}" if "\n" not in text else "\n" + "\n".join(f"    {line}" for line in text.splitlines())
