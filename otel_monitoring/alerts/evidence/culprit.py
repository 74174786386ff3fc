"""`Culprit`: something that stands out when an alert begins, and how it is said."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from otel_monitoring.alerts.evidence.figures import Cell
from otel_monitoring.alerts.evidence.standing_out import StandingOut
from otel_monitoring.redact import printable, redact

_PRECEDENCE = {
    "release": 0.6,
    "version": 0.2,
    "worker": 0.15,
    "pool": 0.12,
    "host": 0.1,
    "collection": 0.1,
    "route": 0.05,
    "traffic": -0.6,
    "exception": -0.1,
    "status": -0.2,
}
"""What is added to the score of a kind: among causes that explain the same the deeper one comes first."""
_PLACES = frozenset({"worker", "version", "release", "pool"})
"""Kinds whose names are not redacted: hosts and versions often look like secrets."""
_TEXT_LENGTH = 300
_NAME_LENGTH = 120


@dataclass(frozen=True, slots=True)
class Culprit:
    """Something that stands out.

    Attributes:
        kind: What it is: `release`, `worker`, `route`, `collection`, …
        names: Its values.
        text: What is remarkable about it, in one line.
        score: How far it explains what happened, from 0 to 1.
        share: Its share of the rise, from 0 to 1; None: it has none.
        usual: Its usual share.
    """

    kind: str
    names: Sequence[str]
    text: str
    score: float
    share: float | None = None
    usual: float | None = None

    @classmethod
    def of(cls, kind: str, found: StandingOut, text: str) -> "Culprit":
        """The one that was found."""
        return cls(kind, found.names, text, found.score, found.share, found.usual)

    @property
    def rank(self) -> float:
        """What causes are sorted by: the score, and what the kind adds."""
        return self.score + _PRECEDENCE.get(self.kind, 0.0)

    def as_json(self) -> dict[str, Any]:
        """`kind`, `names`, `text`, and `share` and `usual` where they are known; printable, without secrets."""
        clean = printable if self.kind in _PLACES else redact
        shares = {"share": self.share, "usual": self.usual}
        known = {name: round(value, 3) for name, value in shares.items() if value is not None}
        names = [clean(name)[:_NAME_LENGTH] for name in self.names]
        return {"kind": self.kind, "names": names, "text": clean(self.text)[:_TEXT_LENGTH], **known}


def shared(label: str, found: StandingOut, what: str, of: str = "") -> str:
    """`route /x: 97 % of the errors, 12 % of the requests`."""
    text = f"{label} {listed(found.names)}".strip() + f": {percent(found.share)} of the {what}"
    return f"{text}, {percent(found.usual)} of the {of}" if of else text


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def change(now: Cell, before: Cell) -> str:
    """The mean durations before and now; one where they are the same."""
    new, old = (seconds(ratio(cell.seconds, cell.number)) for cell in (now, before))
    return f"{old} → {new} on average" if before.number and old != new else f"{new} on average"


def ratio(part: float, whole: float) -> float:
    """`part / whole`; 0 where there is nothing."""
    return part / whole if whole else 0.0


def percent(share: float) -> str:
    """A share in percent."""
    return f"{100 * share:.0f} %" if share >= 0.01 or share == 0 else "under 1 %"


def seconds(value: float) -> str:
    """A duration in seconds or milliseconds."""
    if value >= 1:
        return f"{value:.3g} s"
    return f"{1000 * value:.3g} ms" if value >= 0.01 else f"{1000 * value:.2g} ms"


def number(value: float) -> str:
    """A number of few digits."""
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.2g}"
