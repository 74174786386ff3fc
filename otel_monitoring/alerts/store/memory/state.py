"""`MemoryState`: what a store in memory holds, and what its parts work on."""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple, Protocol, TypeVar

from otel_monitoring.alerts.model import AlertEvent, AlertType, ChannelResult
from otel_monitoring.alerts.mute import Mute
from otel_monitoring.alerts.store.history import HISTORY_LIMIT
from otel_monitoring.alerts.store.outbox import Queued
from otel_monitoring.alerts.store.protocol import CLOCK_TOLERANCE

T = TypeVar("T")


class LeaseRow(NamedTuple):
    """A lease: its worker, when it was taken, and when it expires, in Unix seconds."""

    worker: str
    taken: float
    until: float

    def holds(self, now: float, within: float) -> bool:
        """Whether it is in force at `now` or was within `within` seconds before; False if the clock was set back."""
        return self.until > now - within and self.taken <= now + CLOCK_TOLERANCE


class ReportRow(NamedTuple):
    """The latest report of a worker, when it was published, and when its last urgent one was, in Unix seconds."""

    content: bytes
    at: float
    urgent_at: float | None


@dataclass(repr=False, slots=True)
class MemoryState:
    """The state of a store. Its containers hold immutable values only, so that `copy` can be shallow."""

    history: deque[AlertEvent] = field(default_factory=deque)
    results: dict[str, Mapping[str, ChannelResult]] = field(default_factory=dict)
    """The results by channel of events in the history that were not delivered yet when added, by event identity."""
    counts: Counter[AlertType] = field(default_factory=Counter)
    mutes: list[Mute] = field(default_factory=list)
    notes: dict[str, float] = field(default_factory=dict)
    incidents: dict[str, str] = field(default_factory=dict)
    acknowledgements: dict[str, str] = field(default_factory=dict)
    outbox: dict[int, Queued] = field(default_factory=dict)
    largest_id: int = 0
    """The largest id ever given to an event in the outbox."""
    leases: dict[str, LeaseRow] = field(default_factory=dict)
    conditions: dict[str, str] = field(default_factory=dict)
    reports: dict[str, ReportRow] = field(default_factory=dict)
    number: int = field(default=0, compare=False)
    """How many states came before it, where that is counted: the larger one is newer."""

    def add_to_history(self, event: AlertEvent) -> None:
        """Add an event to the history, and drop the oldest beyond `HISTORY_LIMIT`."""
        if len(self.history) == HISTORY_LIMIT:
            self.results.pop(self.history.popleft().identity, None)
        self.history.append(event)
        if event.is_undelivered:
            self.results[event.identity] = event.channels

    def with_results(self, event: AlertEvent) -> AlertEvent:
        """An event of the history with its present results."""
        results = self.results.get(event.identity) if event.is_undelivered else None
        return event if results is None else replace(event, channels=results)

    def set_result(self, row: Queued, result: ChannelResult) -> None:
        """Set the result of an event of the outbox, if the history has it."""
        before = self.results.get(row.event.identity)
        if before is not None:
            self.results[row.event.identity] = {**before, row.channel: result}

    def copy(self) -> "MemoryState":
        """A copy that can be changed independently."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return MemoryState(
            **{name: value.copy() if hasattr(value, "copy") else value for name, value in values.items()}
        )


class Access(Protocol):
    """How the parts of a store get at its state."""

    def use(self, work: Callable[[MemoryState], T]) -> T:
        """Call `work` with the state while nobody else uses it, and return its result."""
