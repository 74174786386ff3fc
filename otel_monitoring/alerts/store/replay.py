"""`replay`: applies to a store what was done in memory while the store was down."""

from collections import defaultdict

from otel_monitoring.alerts.model import DeliveryState
from otel_monitoring.alerts.store.memory import MemoryState
from otel_monitoring.alerts.store.protocol import OUTBOX_LIMIT, Queued, Store, mute_key

_ATTEMPTS_REPLAYED = 50


def replay(store: Store, before: MemoryState, after: MemoryState, now: float) -> dict[int, int]:
    """Apply the changes from `before` to `after` to `store`, and keep what other workers changed there meanwhile.

    Args:
        store: The store, inside a transaction.
        before: The known state of the store when it went down.
        after: The state in memory now.
        now: Unix seconds.

    Returns:
        The ids that the added events of the outbox have in `store`, by their ids in `after`.
    """
    _replay_history(store, before, after)
    _replay_mutes(store, before, after, now)
    for key, at in after.notified.items():
        if before.notified.get(key) != at and (store.notified_at(key) or float("-inf")) < at:
            store.note_notified(key, at)
    changed: dict[str, str | None] = {k: v for k, v in after.states.items() if before.states.get(k) != v}
    store.save_states({**changed, **dict.fromkeys(before.states.keys() - after.states.keys())})
    for channel, condition in after.conditions.items():
        if before.conditions.get(channel) != condition:
            store.describe(channel, condition)
    return _replay_outbox(store, before, after)


def _replay_history(store: Store, before: MemoryState, after: MemoryState) -> None:
    events = list(after.history)
    if after.cleared != before.cleared:
        store.clear()
    else:
        events = events[max(0, len(events) - (after.appended - before.appended)) :]
    for event in events:
        store.append(after.with_results(event))


def _replay_mutes(store: Store, before: MemoryState, after: MemoryState, now: float) -> None:
    kept = {mute_key(mute) for mute in after.mutes}
    for mute in before.mutes:
        if mute_key(mute) not in kept and mute.until > now:
            store.unmute(mute.type, mute.labels)
    for mute in after.mutes:
        if mute not in before.mutes:
            store.mute(mute)


def _replay_outbox(store: Store, before: MemoryState, after: MemoryState) -> dict[int, int]:
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
    for attempt in range(min(_ATTEMPTS_REPLAYED, max(tries.values(), default=0))):
        store.tried([number for number, count in tries.items() if count > attempt])
    return moved


def _enqueue(store: Store, channel: str, rows: list[Queued]) -> dict[int, int]:
    newest = max((row.id for row in store.pending(channel, OUTBOX_LIMIT)), default=None)
    for row in rows:
        store.enqueue(row.event, (channel,), row.queued_at)
    waiting = store.pending(channel, OUTBOX_LIMIT)
    new = {_content_key(row): row.id for row in waiting if newest is None or row.id > newest}
    # Events beyond the limit of the outbox have no new id.
    return {row.id: new[_content_key(row)] for row in rows if _content_key(row) in new}


def _content_key(row: Queued) -> tuple[str, float, str, str]:
    return row.event.incident, row.event.time, row.event.status.value, row.event.message
