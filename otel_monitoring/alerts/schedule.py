"""When a planned window is open: `Once`, or `Weekly` in a time zone."""

import json
import re
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from otel_monitoring.timestamps import LAST_SECOND, rfc3339

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAY_NUMBERS = {name: number for names in (DAYS, _NAMES) for number, name in enumerate(names)}


class Opening(NamedTuple):
    """One time that a window is open: its start and its end, in Unix seconds."""

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Once:
    """A window that is open once.

    Attributes:
        start: When it opens, in Unix seconds.
        end: When it closes, in Unix seconds.

    Raises:
        ValueError: It ends before it starts.
    """

    start: float
    end: float

    def __post_init__(self) -> None:
        """Check the order."""
        if not self.start < self.end:
            raise ValueError("to: must be after from")

    @property
    def until(self) -> float:
        """After when it is never open again, in Unix seconds."""
        return self.end

    def opening(self, now: float) -> Opening | None:
        """When it is open next, or is open now; None: never again."""
        return Opening(self.start, self.end) if now < self.end else None

    def as_json(self) -> dict[str, Any]:
        """`from` and `to`, as RFC 3339."""
        return {"from": rfc3339(self.start), "to": rfc3339(self.end)}

    def encode(self) -> str:
        """The schedule as JSON."""
        return json.dumps([self.start, self.end])


@dataclass(frozen=True, slots=True)
class Weekly:
    """A window that is open on certain days of the week, at the same local time.

    Attributes:
        days: The days on which it opens: 0 is Monday.
        start: The local time at which it opens.
        end: The local time at which it closes; not after `start`: on the next day.
        timezone: The IANA name of the time zone, e.g. `Europe/Berlin`.

    Raises:
        ValueError: There is no day, or the time zone is not known; the message begins with the field's name.
    """

    days: frozenset[int]
    start: time
    end: time
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        """Check days and time zone."""
        if not self.days or not self.days <= set(range(7)):
            raise ValueError("days: must be some of mon to sun")
        zone(self.timezone)

    @property
    def until(self) -> float:
        """It is open again and again."""
        return float("inf")

    def opening(self, now: float) -> Opening | None:
        """When it is open next, or is open now."""
        here = zone(self.timezone)
        today = datetime.fromtimestamp(now, here).date()
        openings = (self._on(today + timedelta(days=offset), here) for offset in range(-1, 16))
        return next((found for found in openings if found is not None and now < found.end), None)

    def _on(self, day: date, here: ZoneInfo) -> Opening | None:
        if day.weekday() not in self.days:
            return None
        last = day + timedelta(days=self.end <= self.start)
        # An hour that the clock repeats belongs to the window as a whole.
        start, _ = _shown(datetime.combine(day, self.start), here)
        _, end = _shown(datetime.combine(last, self.end), here)
        return Opening(start, end) if start < end else None

    def as_json(self) -> dict[str, Any]:
        """`weekly`: `days`, `from`, `to`; and `timezone`."""
        weekly = {"days": [DAYS[day] for day in sorted(self.days)], "from": f"{self.start:%H:%M}"}
        return {"weekly": {**weekly, "to": f"{self.end:%H:%M}"}, "timezone": self.timezone}

    def encode(self) -> str:
        """The schedule as JSON."""
        return json.dumps({**self.as_json()["weekly"], "timezone": self.timezone}, sort_keys=True)


Schedule = Once | Weekly


def decoded(text: str) -> Schedule | None:
    """Read what `encode` wrote; empty: there is none.

    Raises:
        ValueError, TypeError, LookupError: The text is no schedule.
    """
    if not text:
        return None
    read = json.loads(text)
    if isinstance(read, list):
        return Once(*map(float, read))
    return Weekly(
        days_of(read["days"]), clock_time("from", read["from"]), clock_time("to", read["to"]), read["timezone"]
    )


def zone(name: str) -> ZoneInfo:
    """The time zone of this IANA name.

    Raises:
        ValueError: It is not known on this machine.
    """
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, TypeError, OSError):
        raise ValueError("timezone: must be a name as Europe/Berlin that this machine knows") from None


def _shown(local: datetime, here: ZoneInfo) -> tuple[float, float]:
    """When clocks show this local time for the first and for the last time, in Unix seconds.

    Where they skip it, both are when they show the next one: a window from 02:30 on begins at 03:00 on that day.
    """
    first, last = (local.replace(tzinfo=here, fold=fold).timestamp() for fold in (0, 1))
    if first <= last:
        return first, last
    skipped = range(int(last), int(first))
    after = skipped.start + bisect_left(
        skipped, True, key=lambda second: datetime.fromtimestamp(second, here).replace(tzinfo=None) > local
    )
    return float(after), float(after)


def days_of(given: Iterable[str]) -> frozenset[int]:
    """The numbers of days, from names as `mon` or spans as `mon-fri`; 0 is Monday.

    Raises:
        ValueError: One is no day.
    """
    found: set[int] = set()
    try:
        for text in (given,) if isinstance(given, str) else given:
            for part in text.lower().replace(" ", "").split(","):
                first, _, last = part.partition("-")
                start, end = _DAY_NUMBERS[first], _DAY_NUMBERS[last or first]
                found.update(day % 7 for day in range(start, end + 1 if end >= start else end + 8))
    except (KeyError, AttributeError, TypeError):
        raise ValueError("days: must be names as mon, or spans as mon-fri") from None
    return frozenset(found)


def clock_time(field: str, given: str) -> time:
    """A time of day, from a text as `02:30`; `24:00` is midnight.

    Raises:
        ValueError: It is none; the message begins with `field`.
    """
    try:
        found = time.fromisoformat("00:00" if given == "24:00" else given)
    except (ValueError, TypeError):
        found = None
    if found is None or found.tzinfo is not None or len(given) != len("00:00"):
        raise ValueError(f"{field}: must be a time of day as 02:30")
    return found


def moment(field: str, given: datetime | str, timezone: str = "UTC", *, is_end: bool = False) -> float:
    """Unix seconds, from an RFC 3339 text or a `datetime`; without an offset it is local time in `timezone`.

    Args:
        field: The field's name.
        given: The time.
        timezone: The IANA name of the time zone.
        is_end: Whether a window ends then: of a local time that clocks show twice it is the second, else the first.

    Raises:
        ValueError: It is none; the message begins with `field`.
    """
    try:
        found = given if isinstance(given, datetime) else datetime.fromisoformat(re.sub("[zZ]$", "+00:00", given))
        seconds = found.timestamp() if found.tzinfo is not None else _shown(found, zone(timezone))[is_end]
    except (TypeError, OverflowError, LookupError):
        seconds = -1.0
    except ValueError as error:
        if str(error).startswith("timezone: "):
            raise
        seconds = -1.0
    if not 0 <= seconds < LAST_SECOND:
        raise ValueError(f"{field}: must be a time as 2026-12-24T22:00:00Z, or without an offset in the time zone")
    return seconds


def planned(start: datetime | str, end: datetime | str, days: Iterable[str], timezone: str) -> Schedule:
    """A schedule: `Once` from `start` to `end`, or with `days` `Weekly`, from and to these local times.

    Raises:
        ValueError: It cannot be; the message begins with `from`, `to`, `days` or `timezone`.
    """
    zone(timezone)  # also where both times have an offset, and it says nothing
    if not days:
        return Once(moment("from", start, timezone), moment("to", end, timezone, is_end=True))
    return Weekly(days_of(days), clock_time("from", str(start)), clock_time("to", str(end)), timezone)
