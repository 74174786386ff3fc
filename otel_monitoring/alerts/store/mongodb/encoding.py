"""The state of a store as one text, and back."""

import json
from collections import Counter, deque
from typing import Any

from otel_monitoring.alerts.model import AlertEvent, AlertType
from otel_monitoring.alerts.store.memory.state import MemoryState
from otel_monitoring.alerts.store.outbox import Queued
from otel_monitoring.alerts.store.rows import decodable
from otel_monitoring.alerts.store.serialization import (
    decoded_event,
    decoded_mute,
    decoded_results,
    encoded_event,
    encoded_mute,
    encoded_results,
)
from otel_monitoring.errors import StoreError

STATE_LIMIT = 4_000_000
"""The most bytes of an encoded state, before it is compressed; beyond that the oldest events are left out."""

_FORMAT = 1


class StateCodec:
    """Encodes and decodes states; an event that it has seen is not encoded or decoded again."""

    def __init__(self) -> None:
        self._texts: dict[str, tuple[AlertEvent, str]] = {}
        self._events: dict[tuple[str, str], AlertEvent] = {}

    def encode(self, state: MemoryState) -> bytes:
        """The state as JSON; `leases` and `reports` are not part of it."""
        events = list(state.history)
        while True:
            data = json.dumps(self._record(state, events), separators=(",", ":")).encode()
            if len(data) <= STATE_LIMIT or not events:
                self._forget()
                return data
            events = events[len(events) // 4 + 1 :]

    def decode(self, data: bytes) -> MemoryState:
        """Read what `encode` wrote, without what cannot be read.

        Raises:
            StoreError: A newer version of this package wrote it, or it is damaged.
        """
        try:
            record = json.loads(data)
            if record["format"] != _FORMAT:
                raise StoreError(f"format {record['format']} was written by another version of otel-monitoring")
            return self._state(record)
        except (ValueError, TypeError, LookupError) as error:
            raise StoreError(f"the saved state cannot be read: {type(error).__name__}") from error

    def _record(self, state: MemoryState, events: list[AlertEvent]) -> dict[str, Any]:
        texts: dict[str, int] = {}

        def number(event: AlertEvent) -> int:
            """Where the event's text is: one that waits for several channels is written once."""
            return texts.setdefault(self._text(event), len(texts))

        results = {key: encoded_results(found) for key, found in state.results.items()}
        history = [
            (number(event), encoded_results(event.channels), results.get(event.identity) if event.channels else None)
            for event in events
        ]
        outbox = [
            (row.id, row.channel, number(row.event), row.queued_at, row.attempts) for row in state.outbox.values()
        ]
        return {
            "format": _FORMAT,
            "history": history,
            "counts": {kind.value: count for kind, count in state.counts.items()},
            "mutes": [encoded_mute(mute) for mute in state.mutes],
            "notes": state.notes,
            "incidents": state.incidents,
            "acknowledgements": state.acknowledgements,
            "outbox": outbox,
            "largest_id": state.largest_id,
            "conditions": state.conditions,
            "events": list(texts),
        }

    def _state(self, record: dict[str, Any]) -> MemoryState:
        texts = record["events"]
        state = MemoryState(
            counts=Counter(dict(decodable(record["counts"].items(), lambda row: (AlertType(row[0]), int(row[1]))))),
            mutes=list(decodable(record["mutes"], decoded_mute)),
            notes=record["notes"],
            incidents=record["incidents"],
            acknowledgements=record.get("acknowledgements", {}),
            largest_id=record["largest_id"],
            conditions=record["conditions"],
        )
        state.history = deque()
        for event, results in decodable(record["history"], lambda row: (self._event(texts[row[0]], row[1]), row[2])):
            state.history.append(event)
            if results is not None:
                state.results[event.identity] = decoded_results(results)
        waiting = decodable(record["outbox"], lambda row: Queued(row[0], row[1], self._event(texts[row[2]]), *row[3:]))
        state.outbox = {row.id: row for row in waiting}
        return state

    def _text(self, event: AlertEvent) -> str:
        known = self._texts.get(event.identity)
        if known is None or known[0] is not event:
            known = self._texts[event.identity] = event, encoded_event(event)
        return known[1]

    def _event(self, text: str, results: str = "{}") -> AlertEvent:
        event = self._events.get((text, results))
        if event is None:
            event = self._events[text, results] = decoded_event(text, results)
            self._texts.setdefault(event.identity, (event, text))
        return event

    def _forget(self) -> None:
        """Keep no more than what a full history and a full outbox need."""
        for known in (self._texts, self._events):
            if len(known) > 10_000:
                known.clear()
