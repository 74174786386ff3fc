"""`replay`: applies to a store what was done in memory while the store was down, part by part."""

from otel_monitoring.alerts.model import DeliveryState
from otel_monitoring.alerts.store.memory.state import MemoryState
from otel_monitoring.alerts.store.mutes import mute_key
from otel_monitoring.alerts.store.protocol import Store


def replay(store: Store, before: MemoryState, after: MemoryState, now: float) -> None:
    """Apply the changes from `before` to `after` to `store`, and keep what other workers changed there meanwhile.

    Args:
        store: The store, inside a transaction.
        before: The known state of the store when it went down.
        after: The state in memory now.
        now: Unix seconds.
    """
    _replay_history(store, before, after)
    _replay_mutes(store, before, after, now)
    _replay_notes(store, before, after)
    changed: dict[str, str | None] = {k: v for k, v in after.incidents.items() if before.incidents.get(k) != v}
    store.incidents.save({**changed, **dict.fromkeys(before.incidents.keys() - after.incidents.keys())})
    for channel, condition in after.conditions.items():
        if before.conditions.get(channel) != condition:
            store.conditions.save(channel, condition)
    _replay_outbox(store, before, after)


def _replay_history(store: Store, before: MemoryState, after: MemoryState) -> None:
    events = list(after.history)
    if after.cleared != before.cleared:
        store.history.clear()
    else:
        events = events[max(0, len(events) - (after.appended - before.appended)) :]
    for event in events:
        store.history.append(after.with_results(event))


def _replay_mutes(store: Store, before: MemoryState, after: MemoryState, now: float) -> None:
    kept = {mute_key(mute) for mute in after.mutes}
    for mute in before.mutes:
        if mute_key(mute) not in kept and mute.until > now:
            store.mutes.remove(mute.type, mute.labels)
    for mute in after.mutes:
        if mute not in before.mutes:
            store.mutes.add(mute)


def _replay_notes(store: Store, before: MemoryState, after: MemoryState) -> None:
    if after.notes_cleared != before.notes_cleared:
        store.notes.clear()
    for key, at in after.notes.items():
        if before.notes.get(key) != at and (store.notes.noted_at(key) or float("-inf")) < at:
            store.notes.note(key, at)


def _replay_outbox(store: Store, before: MemoryState, after: MemoryState) -> None:
    for number, row in before.outbox.items():
        waiting, result = after.outbox.get(number), after.results.get(row.event.identity, {}).get(row.channel)
        if waiting is None:
            store.outbox.settle([number], result)
            continue
        if result is not None and result.state is DeliveryState.RETRYING:
            store.outbox.note([number], result)
        if waiting.attempts > row.attempts:
            store.outbox.tried([number], waiting.attempts - row.attempts)
    store.outbox.restore([row for number, row in after.outbox.items() if number not in before.outbox])
