"""`EventSums`: how many events of the past were bad, over windows up to thirty days; objectives are judged by them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from otel_monitoring.metrics.slices.model import Slice

ALL = ""
"""The group of all events."""


class Counts(NamedTuple):
    """Events, of all groups or of one.

    Attributes:
        events: How many there were.
        bad: How many of them were bad; a fraction where that is estimated.
    """

    events: float = 0.0
    bad: float = 0.0


class Indicator(Protocol):
    """Says which events were bad; hashable."""

    def counts(self, content: "Slice") -> Mapping[str, Counts]:
        """The events of a slice by group; those of all groups are under `ALL`."""


class WindowSum(NamedTuple):
    """The events of a window.

    Attributes:
        measured: Seconds of the window in which somebody measured.
        groups: The events by group; those of all groups are under `ALL`.
    """

    measured: float = 0.0
    groups: Mapping[str, Counts] = {}

    def of(self, group: str) -> Counts:
        """The events of a group."""
        return self.groups.get(group, _NOTHING)


_NOTHING = Counts()
_UNKNOWN = WindowSum()


class EventSums(NamedTuple):
    """The sums at one time; immutable, so any thread may read it.

    Attributes:
        until: The end of every window, in Unix seconds.
        since: When the first slice began that a window contains, in Unix seconds; None: there is none.
        sums: The events by indicator and length of the window in seconds.
    """

    until: float
    since: float | None = None
    sums: Mapping[tuple[Indicator, int], WindowSum] = {}

    def over(self, indicator: Indicator, seconds: int) -> WindowSum:
        """The events of the last `seconds`; unmeasured where this window was not asked for."""
        return self.sums.get((indicator, seconds), _UNKNOWN)
