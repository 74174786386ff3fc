"""`release_of`: the release that happened before an alert, and whether the alert's value changed with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from otel_monitoring.alerts.evidence.alert import Alert
from otel_monitoring.alerts.evidence.circumstances import Circumstances
from otel_monitoring.alerts.evidence.comparison import route_of, routes_of
from otel_monitoring.alerts.evidence.course import reader_of
from otel_monitoring.alerts.evidence.culprit import ratio
from otel_monitoring.alerts.evidence.subject import Subject, subject_of
from otel_monitoring.alerts.model import duration
from otel_monitoring.metrics.slices.model import FINEST
from otel_monitoring.timestamps import rfc3339

_REACH = 3600.0
"""Seconds before an alert in which a release may have caused it."""
_SOON = 180.0
"""Seconds after a release within which its consequences begin."""
_HALFWAY = 0.5
_ENOUGH = 20
"""Requests of other versions that are enough to compare with."""


@dataclass(frozen=True, slots=True)
class Release:
    """A release before an alert.

    Attributes:
        version: The version that began.
        before: The version before it, or empty.
        at: When it began, in Unix seconds.
        ago: Seconds from then to the beginning of the alert.
        began_it: Whether the alert's value changed with it.
    """

    version: str
    before: str
    at: float
    ago: float
    began_it: bool

    @property
    def text(self) -> str:
        """What happened, for people."""
        after = f", after {self.before}" if self.before else ""
        return f"release {self.version}{after}: {duration(self.ago)} before the alert began"

    def as_json(self) -> dict[str, Any]:
        """`version`, `before`, `at` (RFC 3339) and `seconds_before`."""
        return {
            "version": self.version,
            "before": self.before,
            "at": rfc3339(self.at),
            "seconds_before": round(self.ago),
        }


def release_of(alert: Alert, about: Circumstances) -> Release | None:
    """The last release within an hour before the alert; None: there was none, or nothing is known from before it."""
    for place in range(len(about.releases) - 1, 0, -1):
        at, version = about.releases[place]
        ago = alert.since - at
        if -FINEST.seconds <= ago <= _REACH:
            began = _began_with(alert, about, at) and not _is_elsewhere(alert, about, version)
            return Release(version, about.releases[place - 1][1], at, max(0.0, ago), began)
    return None


def _began_with(alert: Alert, about: Circumstances, at: float) -> bool:
    """Whether the value was better before the release, and went halfway to the present one soon afterwards."""
    read = reader_of(alert.rule, alert.group, about)
    if read is None or alert.value is None:
        return alert.since - at <= _SOON
    earlier = [value for _, end, one in about.slices if end <= at and (value := read(one)) is not None]
    later = [(end, value) for _, end, one in about.slices if end > at and (value := read(one)) is not None]
    usual = _median(earlier)
    if usual is None:
        return False
    worse = alert.rule.is_worse
    worst = max((value for _, value in later), key=lambda value: abs(value - usual), default=alert.value)
    halfway = usual + _HALFWAY * ((alert.value if worse(alert.value, worst) else worst) - usual)
    if any(worse(value, halfway) for value in earlier[-3:]):
        return False  # it was bad already
    first = next((end for end, value in later if worse(value, halfway)), alert.since)
    return first - at <= max(_SOON, FINEST.seconds)


def _is_elsewhere(alert: Alert, about: Circumstances, version: str) -> bool:
    """Whether processes of other versions, which still run, are about as bad as those of the release."""
    place = {Subject.ERRORS: 1, Subject.TIME: 2}.get(subject_of(alert.rule.expression))
    if place is None:
        return False
    sums = {True: [0.0, 0.0], False: [0.0, 0.0]}
    for worker in about.workers:
        for _, found in routes_of(worker, route_of(alert)):
            known = sums[worker.version == version]
            known[0] += found[0]
            known[1] += found[place]
    (new, bad), (old, bad_too) = sums[True], sums[False]
    return old >= _ENOUGH and bad_too > 0 and ratio(bad_too, old) >= _HALFWAY * ratio(bad, new)


def _median(values: Sequence[float]) -> float | None:
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else None
