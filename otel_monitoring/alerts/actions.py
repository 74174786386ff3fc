"""What people do about alerts: mute them, plan windows in which they are muted, and end both.

The message of every `ValueError` begins with the field.
"""

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from otel_monitoring.alerts.model import AlertType, readable_labels
from otel_monitoring.alerts.mute import Mute
from otel_monitoring.alerts.selection import Selection
from otel_monitoring.alerts.store import Store
from otel_monitoring.alerts.store.mutes import MUTES_LIMIT
from otel_monitoring.config.hints import did_you_mean
from otel_monitoring.errors import TooManyMutesError
from otel_monitoring.redact import redact
from otel_monitoring.timestamps import LAST_SECOND

if TYPE_CHECKING:
    from otel_monitoring.alerts.schedule import Schedule

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


def alert_type(field: str, given: AlertType | str, known: Collection[str]) -> AlertType:
    """The type of this name: a known one, or a further one of the application's own.

    Args:
        field: The field's name.
        given: The type, or its name.
        known: The names of the known types.

    Raises:
        ValueError: It is no name of a type, or nearly a known one.
    """
    name = str(given.value if isinstance(given, AlertType) else given)
    if name in known:
        return AlertType(name)
    meant = did_you_mean(name, known) if _NAME.fullmatch(name) else "; types are lower case letters, digits and _"
    if meant or AlertType(name).value != name:
        raise ValueError(f"{field}: no such type{meant}: there are {', '.join(sorted(known))}")
    return AlertType(name)


def selection(
    kind: AlertType | str | None,
    rule: str | None,
    labels: Mapping[str, str] | None,
    *,
    types: Collection[str],
    rules: Collection[str],
) -> Selection:
    """The alerts of this type, of this rule and with these labels; what is None selects nothing.

    Args:
        kind: A type, or its name.
        rule: The name of a rule. A name that is nearly a known one is refused.
        labels: Labels that an alert must have.
        types: The names of the known types.
        rules: The names of the known rules.

    Raises:
        ValueError: A name is wrong.
    """
    if rule is not None and rule not in rules:
        meant = did_you_mean(rule, rules) if _NAME.fullmatch(rule) else "; names are lower case letters, digits and _"
        if meant:
            raise ValueError(f"rule: no such rule{meant}: there are {', '.join(sorted(rules))}")
    return Selection(
        types=frozenset() if kind is None else frozenset((alert_type("type", kind, types),)),
        rules=frozenset() if rule is None else frozenset((rule,)),
        labels=readable_labels(labels or {}),
    )


def until(now: float, duration_seconds: object) -> float:
    """When a mute of this duration, in seconds, ends, in Unix seconds.

    Raises:
        ValueError: It is no positive number, or ends beyond the calendar.
    """
    given = duration_seconds  # untyped callers may pass anything
    if not isinstance(given, int | float) or isinstance(given, bool) or not 0 < given < LAST_SECOND - now:
        shown = redact(given, limit=40)
        raise ValueError(f"duration_seconds: must be a number above 0 and end before the year 10000, not {shown}")
    return now + given


def add_mute(store: Store, mute: Mute, now: float) -> None:
    """Add `mute`.

    Args:
        store: The store of the mutes.
        mute: The mute; it replaces one with the same key.
        now: Unix seconds.

    Raises:
        ValueError: It would mute everything.
        TooManyMutesError: `MUTES_LIMIT` is reached.
    """
    if mute.selection.is_empty and mute.schedule is None:
        raise ValueError("type: name a type, a rule or labels; everything is muted by maintenance only")

    def work(store: Store) -> None:
        others = sum(other.key != mute.key for other in store.mutes.all(now))
        if others >= MUTES_LIMIT:
            raise TooManyMutesError(f"mutes: {others} are in force, which is the limit; end one first")
        store.mutes.add(mute)

    store.run(work)


def end_mutes(store: Store, name: str, now: float) -> int:
    """End mutes; returns how many.

    Args:
        store: The store of the mutes.
        name: The id of a mute; or a type or a rule: every mute that is about it alone.
        now: Unix seconds.
    """

    def work(store: Store) -> int:
        named = [mute for mute in store.mutes.all(now) if mute.schedule is None and mute.is_named(name)]
        return sum(store.mutes.remove(mute) for mute in named)

    return store.run(work)


def plan(store: Store, what: Selection, schedule: "Schedule", author: str, reason: str, now: float) -> Mute:
    """Add a planned window, and return it.

    Args:
        store: The store of the mutes.
        what: The alerts that are muted while it is open.
        schedule: When it is open.
        author: Who plans it.
        reason: Why.
        now: Unix seconds.

    Raises:
        ValueError: It is over.
        TooManyMutesError: `MUTES_LIMIT` is reached.
    """
    window = signed(what, schedule.until, author, reason, schedule)
    if window.until <= now:
        raise ValueError("to: must be in the future")
    add_mute(store, window, now)
    return window


def end_window(store: Store, identifier: str, now: float) -> bool:
    """Remove a planned window; returns whether there was one.

    Args:
        store: The store of the mutes.
        identifier: The id of the window.
        now: Unix seconds.
    """

    def work(store: Store) -> bool:
        named = [one for one in store.mutes.all(now) if one.schedule is not None and one.id == identifier]
        return any(store.mutes.remove(one) for one in named)

    return store.run(work)


def signed(mute_of: Selection, end: float, author: str, reason: str, schedule: "Schedule | None" = None) -> Mute:
    """A mute whose author and reason are printable lines without secrets; `end` is in Unix seconds."""
    return Mute(mute_of, end, redact(author), redact(reason), schedule)
