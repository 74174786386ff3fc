"""`MemoryOutbox`: the outbox in memory."""

from collections import Counter
from collections.abc import Collection, Sequence

from otel_monitoring.alerts.model import AlertEvent, ChannelResult, title
from otel_monitoring.alerts.store.memory.state import Access, MemoryState
from otel_monitoring.alerts.store.outbox import (
    OUTBOX_LIMIT,
    Queued,
    given_up,
    new_ids,
    notice_without,
    overflow_notice,
)


class MemoryOutbox:
    """An `Outbox` in memory."""

    def __init__(self, state: Access) -> None:
        self._state = state

    def enqueue(self, events: Sequence[AlertEvent], channels: Collection[str], now: float) -> None:
        def work(state: MemoryState) -> None:
            for channel in channels:
                for number, event in zip(new_ids(len(events), now, state.largest_id), events, strict=True):
                    _add(state, Queued(number, channel, event, now))
                _leave_out_surplus(state, channel, now)

        if channels and events:
            self._state.use(work)

    def restore(self, rows: Collection[Queued]) -> None:
        def work(state: MemoryState) -> None:
            for row in rows:
                if row.id not in state.outbox:
                    _add(state, row)
            for channel in {row.channel for row in rows}:
                _leave_out_surplus(state, channel, max(row.queued_at for row in rows))

        if rows:
            self._state.use(work)

    def pending(self, channel: str, limit: int) -> Sequence[Queued]:
        waiting = self._state.use(lambda state: _waiting(state, channel))
        return sorted(waiting, key=lambda row: row.id)[:limit]

    def waiting(self) -> frozenset[str]:
        return self._state.use(lambda state: frozenset(row.channel for row in state.outbox.values()))

    def backlog(self) -> dict[str, int]:
        return self._state.use(lambda state: dict(Counter(row.channel for row in state.outbox.values())))

    def tried(self, ids: Collection[int], attempts: int = 1) -> None:
        def work(state: MemoryState) -> None:
            for row in _rows(state, ids):
                state.outbox[row.id] = row._replace(attempts=row.attempts + attempts)

        self._state.use(work)

    def note(self, ids: Collection[int], result: ChannelResult) -> None:
        def work(state: MemoryState) -> None:
            for row in _rows(state, ids):
                state.set_result(row, result)

        self._state.use(work)

    def settle(self, ids: Collection[int], result: ChannelResult | None = None) -> None:
        def work(state: MemoryState) -> None:
            for row in _rows(state, ids):
                del state.outbox[row.id]
                if result is not None:
                    state.set_result(row, result)

        self._state.use(work)

    def arrived(self, rows: Sequence[Queued], result: ChannelResult) -> None:
        def work(state: MemoryState) -> None:
            left_out = [row for row in rows if state.outbox.pop(row.id, None) is None]
            for row in rows:
                state.set_result(row, result)
            notice = _notice(state, left_out[0].channel) if left_out else None
            if notice is not None:
                titles = [title(row.event.type.value, row.event.rule) for row in left_out]
                event = notice_without(notice.event, notice.channel, titles)
                if event is None:
                    del state.outbox[notice.id]
                else:
                    state.outbox[notice.id] = notice._replace(event=event)

        self._state.use(work)


def _add(state: MemoryState, row: Queued) -> None:
    state.outbox[row.id] = row
    state.largest_id = max(state.largest_id, row.id)


def _rows(state: MemoryState, ids: Collection[int]) -> list[Queued]:
    """Those of the events that wait."""
    return [row for number in ids if (row := state.outbox.get(number)) is not None]


def _waiting(state: MemoryState, channel: str) -> list[Queued]:
    return [row for row in state.outbox.values() if row.channel == channel]


def _notice(state: MemoryState, channel: str) -> Queued | None:
    """The notice about left-out events that waits for the channel and was not tried yet."""
    untried = (row for row in _waiting(state, channel) if not row.attempts)
    return next((row for row in untried if row.event.is_overflow_notice), None)


def _leave_out_surplus(state: MemoryState, channel: str, now: float) -> None:
    if len(state.outbox) <= OUTBOX_LIMIT:
        return
    waiting = _waiting(state, channel)
    if len(waiting) <= OUTBOX_LIMIT:
        return
    notice = _notice(state, channel)
    others = [row for row in waiting if not row.event.is_overflow_notice]
    surplus = len(waiting) - OUTBOX_LIMIT + (notice is None)
    least = sorted(others, key=lambda row: (row.event.severity.rank, row.id))[:surplus]
    for row in least:
        state.set_result(state.outbox.pop(row.id), given_up(now))
    left_out = Counter(title(row.event.type.value, row.event.rule) for row in least)
    if notice is None:
        (number,) = new_ids(1, now, state.largest_id)
        notice = Queued(number, channel, overflow_notice(None, channel, left_out, now), now)
    else:
        notice = notice._replace(event=overflow_notice(notice.event, channel, left_out, now))
    _add(state, notice)
