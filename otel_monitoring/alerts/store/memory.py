"""`MemoryStore`: the state of alerting in the memory of one process."""

import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from typing import TypeVar

from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, AlertType, ChannelResult, Mute, Status, title
from otel_monitoring.alerts.store import overflow
from otel_monitoring.alerts.store.protocol import (
    CLOCK_TOLERANCE,
    HISTORY_LIMIT,
    LEADER,
    NOTES_LIMIT,
    NOTES_SECONDS,
    OUTBOX_LIMIT,
    Queued,
    Store,
    mute_key,
)
from otel_monitoring.forks import renewed

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """A lease: its worker, when it was taken, and when it expires, in Unix seconds."""

    worker: str
    taken: float
    until: float

    def holds(self, now: float, within: float) -> bool:
        """Whether it is in force at `now` or was within `within` seconds before; False if the clock was set back."""
        return self.until > now - within and self.taken <= now + CLOCK_TOLERANCE


@dataclass(frozen=True, slots=True)
class ReportRow:
    """The latest report of a worker, when it was published, and when its last urgent one was, in Unix seconds."""

    content: bytes
    at: float
    urgent_at: float | None


@dataclass(slots=True)
class MemoryState:
    """The state of a `MemoryStore`. Its containers hold immutable values only, so that `copy` can be shallow."""

    history: deque[AlertEvent] = field(default_factory=deque)
    results: dict[str, Mapping[str, ChannelResult]] = field(default_factory=dict)
    """The results by channel of events in the history that were not delivered yet when added, by event identity."""
    counts: Counter[AlertType] = field(default_factory=Counter)
    appended: int = 0
    """The number of events ever added to the history."""
    cleared: int = 0
    """The number of times that the history was cleared."""
    mutes: list[Mute] = field(default_factory=list)
    notified: dict[str, float] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    outbox: dict[int, Queued] = field(default_factory=dict)
    next_id: int = 1
    leases: dict[str, LeaseRow] = field(default_factory=dict)
    conditions: dict[str, str] = field(default_factory=dict)
    reports: dict[str, ReportRow] = field(default_factory=dict)

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


class MemoryStore:
    """A `Store` in memory, which is lost when the process ends.

    Args:
        first_id: The id of the first event in the outbox.
        problem: Why it is used in place of the configured store, if it is.

    Attributes:
        state: Its state.
    """

    def __init__(self, *, first_id: int = 1, problem: str | None = None) -> None:
        self.problem = problem
        self.state = MemoryState(next_id=first_id)
        self._lock = renewed(self, "_lock", threading.RLock)
        self._inside = renewed(self, "_inside", bool)

    def run(self, work: Callable[[Store], T]) -> T:
        with self.exclusive():
            return work(self)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        with self._lock:
            if self._inside:
                raise RuntimeError("a store's transactions are not nested")
            before = self.state.copy()
            self._inside = True
            try:
                yield
            except BaseException:
                self.state = before
                raise
            finally:
                self._inside = False

    def close(self) -> None:
        """Do nothing: there are no files."""

    # History

    def append(self, event: AlertEvent) -> None:
        with self._lock:
            self.state.add_to_history(event)
            self.state.appended += 1
            if event.status is not Status.RESOLVED:
                self.state.counts[event.type] += 1

    def events(
        self, *, limit: int, alert_type: AlertType | None = None, severity: AlertSeverity | None = None
    ) -> Sequence[AlertEvent]:
        with self._lock:
            newest_first = reversed(self.state.history)
            matching = (
                event
                for event in newest_first
                if alert_type in (None, event.type) and severity in (None, event.severity)
            )
            return [self.state.with_results(event) for event in islice(matching, limit)]

    def counts(self) -> dict[AlertType, int]:
        with self._lock:
            return dict(self.state.counts)

    def clear(self) -> None:
        with self._lock:
            self.state.history.clear()
            self.state.results.clear()
            self.state.counts.clear()
            self.state.notified.clear()
            self.state.cleared += 1

    # Mutes, and notes about notifications

    def mute(self, mute: Mute) -> None:
        with self._lock:
            self.state.mutes = [other for other in self.state.mutes if mute_key(other) != mute_key(mute)] + [mute]

    def unmute(self, alert_type: AlertType, labels: Mapping[str, str] | None = None) -> int:
        with self._lock:
            before = self.state.mutes
            self.state.mutes = [
                mute for mute in before if mute.type is not alert_type or labels not in (None, mute.labels)
            ]
            return len(before) - len(self.state.mutes)

    def mutes(self, now: float) -> list[Mute]:
        with self._lock:
            self.state.mutes = [mute for mute in self.state.mutes if mute.until > now]
            return sorted(self.state.mutes, key=lambda mute: (mute.until, mute_key(mute)))

    def notified_at(self, key: str) -> float | None:
        with self._lock:
            return self.state.notified.get(key)

    def note_notified(self, key: str, now: float) -> None:
        with self._lock:
            notes = self.state.notified
            notes.pop(key, None)
            notes[key] = now
            if len(notes) > NOTES_LIMIT:
                del notes[next(iter(notes))]
            while notes[oldest := next(iter(notes))] < now - NOTES_SECONDS:
                del notes[oldest]

    # The states of alerts

    def states(self) -> dict[str, str]:
        with self._lock:
            return dict(self.state.states)

    def save_states(self, states: Mapping[str, str | None]) -> None:
        with self._lock:
            for key, state in states.items():
                if state is None:
                    self.state.states.pop(key, None)
                else:
                    self.state.states[key] = state

    # The outbox

    def enqueue(self, event: AlertEvent, channels: Collection[str], now: float) -> None:
        self.enqueue_all([event], channels, now)

    def enqueue_all(self, events: Sequence[AlertEvent], channels: Collection[str], now: float) -> None:
        with self._lock:
            for channel in channels:
                for event in events:
                    number = self.state.next_id
                    self.state.next_id += 1
                    self.state.outbox[number] = Queued(number, channel, event, now)
                self._leave_out_surplus(channel, now)

    def _leave_out_surplus(self, channel: str, now: float) -> None:
        outbox = self.state.outbox
        if len(outbox) <= OUTBOX_LIMIT:
            return
        waiting = [row for row in outbox.values() if row.channel == channel]
        if len(waiting) <= OUTBOX_LIMIT:
            return
        notice = self._overflow_notice(channel)
        others = [row for row in waiting if not row.event.is_overflow_notice]
        surplus = len(waiting) - OUTBOX_LIMIT + (notice is None)
        least = sorted(others, key=lambda row: (row.event.severity.rank, row.id))[:surplus]
        for row in least:
            self.state.set_result(outbox.pop(row.id), overflow.given_up(now))
        left_out = Counter(title(row.event.type.value, row.event.rule) for row in least)
        if notice is None:
            notice = Queued(self.state.next_id, channel, overflow.notice(None, channel, left_out, now), now)
            self.state.next_id += 1
        else:
            notice = replace(notice, event=overflow.notice(notice.event, channel, left_out, now))
        outbox[notice.id] = notice

    def _overflow_notice(self, channel: str) -> Queued | None:
        """The notice about left-out events that waits for the channel and was not tried yet."""
        waiting = (row for row in self.state.outbox.values() if row.channel == channel and not row.attempts)
        return next((row for row in waiting if row.event.is_overflow_notice), None)

    def pending(self, channel: str, limit: int) -> Sequence[Queued]:
        with self._lock:
            waiting = [row for row in self.state.outbox.values() if row.channel == channel]
        return sorted(waiting, key=lambda row: row.id)[:limit]

    def backlog(self) -> dict[str, int]:
        with self._lock:
            return dict(Counter(row.channel for row in self.state.outbox.values()))

    def tried(self, ids: Collection[int]) -> None:
        with self._lock:
            for number in ids:
                if (row := self.state.outbox.get(number)) is not None:
                    self.state.outbox[number] = replace(row, attempts=row.attempts + 1)

    def note(self, ids: Collection[int], result: ChannelResult) -> None:
        with self._lock:
            for number in ids:
                if (row := self.state.outbox.get(number)) is not None:
                    self.state.set_result(row, result)

    def settle(self, ids: Collection[int], result: ChannelResult | None = None) -> None:
        with self._lock:
            for number in ids:
                row = self.state.outbox.pop(number, None)
                if row is not None and result is not None:
                    self.state.set_result(row, result)

    def arrived(self, rows: Sequence[Queued], result: ChannelResult) -> None:
        with self._lock:
            left_out = [row for row in rows if self.state.outbox.pop(row.id, None) is None]
            for row in rows:
                self.state.set_result(row, result)
            notice = self._overflow_notice(left_out[0].channel) if left_out else None
            if notice is None:
                return
            titles = [title(row.event.type.value, row.event.rule) for row in left_out]
            event = overflow.without(notice.event, notice.channel, titles, notice.event.time)
            if event is None:
                del self.state.outbox[notice.id]
            else:
                self.state.outbox[notice.id] = replace(notice, event=event)

    # Workers

    def lead(self, worker: str, now: float, until: float, leases: Collection[str] = (LEADER,)) -> frozenset[str]:
        with self._lock:
            held = self.leaders(now)
            granted = frozenset(name for name in leases if held.get(name, worker) == worker)
            self.state.leases.update(dict.fromkeys(granted, LeaseRow(worker, now, until)))
            return granted

    def leaders(self, now: float, within: float = 0.0) -> dict[str, str]:
        with self._lock:
            return {name: lease.worker for name, lease in self.state.leases.items() if lease.holds(now, within)}

    def resign(self, worker: str) -> None:
        with self._lock:
            for name, lease in self.state.leases.items():
                if lease.worker == worker:
                    self.state.leases[name] = replace(lease, until=lease.taken)
            self.state.reports.pop(worker, None)

    def describe(self, channel: str, condition: str) -> None:
        with self._lock:
            self.state.conditions[channel] = condition

    def descriptions(self) -> dict[str, str]:
        with self._lock:
            return dict(self.state.conditions)

    def publish(self, worker: str, report: bytes, now: float, *, urgent: bool = False) -> None:
        with self._lock:
            former = self.state.reports.get(worker)
            urgent_at = now if urgent else former.urgent_at if former is not None else None
            self.state.reports[worker] = ReportRow(report, now, urgent_at)

    def reports(self, since: float, now: float) -> dict[str, bytes]:
        latest = now + CLOCK_TOLERANCE
        with self._lock:
            reports = self.state.reports
            for worker in [worker for worker, report in reports.items() if not since <= report.at <= latest]:
                del reports[worker]
            return {worker: report.content for worker, report in reports.items()}

    def urgent_since(self, since: float) -> bool:
        with self._lock:
            return any(r.urgent_at is not None and r.urgent_at > since for r in self.state.reports.values())
