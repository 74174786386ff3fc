"""What was done in memory while a store was down, done again in the store."""

from collections import defaultdict

from otel_monitoring.alerts.model import DeliveryState
from otel_monitoring.alerts.store.memory import MemoryState
from otel_monitoring.alerts.store.protocol import OUTBOX_LIMIT, Queued, Store, mute_key

_ATTEMPTS_KEPT = 50


def replay(store: Store, before: MemoryState, after: MemoryState, now: float) -> dict[int, int]:
    """Do to `store` what led from `before` to `after`; what others did to it meanwhile stays otherwise.

    Args:
        store: Inside a transaction.
        before: What was known of the store when it went down.
        after: What became of that.
        now: Unix seconds.

    Returns:
        The numbers that the events added to the outbox have in `store`, by those they had in `after`.
    """
    _history(store, before, after)
    _mutes(store, before, after, now)
    for key, at in after.notified.items():
        if before.notified.get(key) != at and (store.notified_at(key) or float("-inf")) < at:
            store.note_notified(key, at)
    changed: dict[str, str | None] = {k: v for k, v in after.states.items() if before.states.get(k) != v}
    store.save_states({**changed, **dict.fromkeys(before.states.keys() - after.states.keys())})
    for channel, condition in after.conditions.items():
        if before.conditions.get(channel) != condition:
            store.describe(channel, condition)
    return _outbox(store, before, after)


def _history(store: Store, before: MemoryState, after: MemoryState) -> None:
    events = list(after.history)
    if after.cleared != before.cleared:
        store.clear()
    else:
        events = events[max(0, len(events) - (after.appended - before.appended)) :]
    for event in events:
        store.append(after.told(event))


def _mutes(store: Store, before: MemoryState, after: MemoryState, now: float) -> None:
    kept = {mute_key(mute) for mute in after.mutes}
    for mute in before.mutes:
        if mute_key(mute) not in kept and mute.until > now:
            store.unmute(mute.type, mute.labels)
    for mute in after.mutes:
        if mute not in before.mutes:
            store.mute(mute)


def _outbox(store: Store, before: MemoryState, after: MemoryState) -> dict[int, int]:
    for number, row in before.outbox.items():
        result = after.results.get(row.event.identity, {}).get(row.channel)
        if number not in after.outbox:
            store.settle([number], result)
        elif result is not None and result.state is DeliveryState.RETRYING:
            store.note([number], result)
    tries: dict[int, int] = {
        number: after.outbox[number].attempts - row.attempts
        for number, row in before.outbox.items()
        if number in after.outbox
    }
    added: defaultdict[str, list[Queued]] = defaultdict(list)
    for number in sorted(after.outbox.keys() - before.outbox.keys()):
        added[after.outbox[number].channel].append(after.outbox[number])
    moved: dict[int, int] = {}
    for channel, rows in added.items():
        moved.update(_enqueue(store, channel, rows))
    tries |= {moved[row.id]: row.attempts for rows in added.values() for row in rows if row.id in moved}
    for attempt in range(min(_ATTEMPTS_KEPT, max(tries.values(), default=0))):
        store.tried([number for number, count in tries.items() if count > attempt])
    return moved


def _enqueue(store: Store, channel: str, rows: list[Queued]) -> dict[int, int]:
    newest = max((row.id for row in store.pending(channel, OUTBOX_LIMIT)), default=None)
    for row in rows:
        store.enqueue(row.event, (channel,), row.queued_at)
    waiting = store.pending(channel, OUTBOX_LIMIT)
    new = {_known_by(row): row.id for row in waiting if newest is None or row.id > newest}
    # Beyond the limit some were left out.
    return {row.id: new[_known_by(row)] for row in rows if _known_by(row) in new}


def _known_by(row: Queued) -> tuple[str, float, str, str]:
    return row.event.incident, row.event.time, row.event.status.value, row.event.message
