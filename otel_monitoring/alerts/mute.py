"""`Mute`: alerts that are recorded but not notified: from now on for a while, or in planned windows."""

import hashlib
from collections.abc import Iterable
from functools import cached_property
from math import isfinite
from typing import TYPE_CHECKING, Any

from otel_monitoring.alerts.model import AlertType
from otel_monitoring.alerts.selection import Selectable, Selection, single
from otel_monitoring.timestamps import rfc3339
from otel_monitoring.value import Value

if TYPE_CHECKING:
    from otel_monitoring.alerts.schedule import Schedule

DEFAULT_MUTE_SECONDS = 3600.0
"""How long a mute lasts where nobody says how long: by HTTP, in Python, at the command line and on the page."""


class Mute(Value):
    """Alerts that are recorded but not notified.

    Attributes:
        selection: Which alerts.
        until: When it ends, in Unix seconds; infinite: never.
        author: Who muted.
        reason: Why.
        schedule: When it is in force, for a planned window; None: until it ends.
    """

    selection: Selection
    until: float
    author: str = ""
    reason: str = ""
    schedule: "Schedule | None" = None

    @cached_property
    def key(self) -> tuple[str, str]:
        """What it is about: a mute replaces another one with the same key."""
        return self.selection.encode(), self.schedule.encode() if self.schedule is not None else ""

    @cached_property
    def id(self) -> str:
        """Its id, made of its key. No type's and no rule's name has its hyphen."""
        digest = hashlib.sha256("\n".join(self.key).encode("utf-8", "replace")).hexdigest()
        return f"{'mute' if self.schedule is None else 'window'}-{digest[:12]}"

    @property
    def type(self) -> AlertType | None:
        """The type that it mutes as a whole; None: it does not."""
        whole = self.selection == Selection(self.selection.types) and len(self.selection.types) == 1
        return next(iter(self.selection.types)) if whole else None

    def covers(self, alert: Selectable) -> bool:
        """Whether `alert` is muted while it is in force."""
        return self.selection(alert)

    def is_in_force(self, now: float) -> bool:
        """Whether it mutes at `now`, in Unix seconds; a planned window does while it is open."""
        if self.schedule is None:
            return now < self.until
        opening = self.schedule.opening(now)
        return opening is not None and opening.start <= now

    def is_named(self, name: str) -> bool:
        """Whether `name` is its id, or the only type or the only rule that it is about."""
        return name in (self.id, single(self.selection.types), single(self.selection.rules))

    def as_json(self) -> dict[str, Any]:
        """`id`, `type`, `rule` (None: any), `labels`, `until` (RFC 3339), `author`, `reason`."""
        return {
            "id": self.id,
            "type": single(self.selection.types),
            "rule": single(self.selection.rules),
            "labels": dict(self.selection.labels),
            "until": rfc3339(self.until) if isfinite(self.until) else None,
            "author": self.author,
            "reason": self.reason,
        }


def window_json(window: Mute, now: float) -> dict[str, Any]:
    """A planned window: `id`, `type`, `rule`, `labels`, `author`, `reason`, when it is `open`, `opens` and `closes`.

    Also its schedule: `from` and `to`, or `weekly` and `timezone`. Times as RFC 3339; the next ones at `now`.
    """
    found = window.as_json()
    del found["until"]
    schedule = window.schedule.as_json() if window.schedule is not None else {}
    opening = window.schedule.opening(now) if window.schedule is not None else None
    times = {"opens": rfc3339(opening.start), "closes": rfc3339(opening.end)} if opening is not None else {}
    return {**found, "open": window.is_in_force(now), **times, **schedule}


def in_force(mutes: Iterable[Mute], now: float) -> list[Mute]:
    """Those of `mutes` that mute at `now`, in Unix seconds."""
    return [mute for mute in mutes if mute.is_in_force(now)]
