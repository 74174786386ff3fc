"""The parts in memory that are values by a key: mutes, notes, incidents and conditions."""

from collections.abc import Mapping

from otel_monitoring.alerts.model import AlertType, Mute
from otel_monitoring.alerts.store.memory.state import Access, MemoryState
from otel_monitoring.alerts.store.mutes import mute_key
from otel_monitoring.alerts.store.notes import NOTES_LIMIT, NOTES_SECONDS


class MemoryMutes:
    """`Mutes` in memory."""

    def __init__(self, state: Access) -> None:
        self._state = state

    def add(self, mute: Mute) -> None:
        def work(state: MemoryState) -> None:
            state.mutes = [other for other in state.mutes if mute_key(other) != mute_key(mute)] + [mute]

        self._state.use(work)

    def remove(self, alert_type: AlertType, labels: Mapping[str, str] | None = None) -> int:
        def work(state: MemoryState) -> int:
            before = state.mutes
            state.mutes = [mute for mute in before if mute.type is not alert_type or labels not in (None, mute.labels)]
            return len(before) - len(state.mutes)

        return self._state.use(work)

    def in_force(self, now: float) -> list[Mute]:
        def work(state: MemoryState) -> list[Mute]:
            state.mutes = [mute for mute in state.mutes if mute.until > now]
            return sorted(state.mutes, key=lambda mute: (mute.until, mute_key(mute)))

        return self._state.use(work)


class MemoryNotes:
    """`Notes` in memory."""

    def __init__(self, state: Access) -> None:
        self._state = state

    def noted_at(self, key: str) -> float | None:
        return self._state.use(lambda state: state.notes.get(key))

    def note(self, key: str, now: float) -> None:
        def work(state: MemoryState) -> None:
            notes = state.notes
            notes.pop(key, None)
            notes[key] = now
            if len(notes) > NOTES_LIMIT:
                del notes[next(iter(notes))]
            while notes[oldest := next(iter(notes))] < now - NOTES_SECONDS:
                del notes[oldest]

        self._state.use(work)

    def all(self) -> dict[str, float]:
        return self._state.use(lambda state: dict(state.notes))

    def clear(self) -> None:
        self._state.use(lambda state: state.notes.clear())


class MemoryIncidents:
    """`Incidents` in memory."""

    def __init__(self, state: Access) -> None:
        self._state = state

    def saved(self) -> dict[str, str]:
        return self._state.use(lambda state: dict(state.incidents))

    def save(self, states: Mapping[str, str | None]) -> None:
        def work(state: MemoryState) -> None:
            for key, text in states.items():
                if text is None:
                    state.incidents.pop(key, None)
                else:
                    state.incidents[key] = text

        self._state.use(work)


class MemoryConditions:
    """`Conditions` in memory."""

    def __init__(self, state: Access) -> None:
        self._state = state

    def save(self, channel: str, condition: str) -> None:
        self._state.use(lambda state: state.conditions.update({channel: condition}))

    def saved(self) -> dict[str, str]:
        return self._state.use(lambda state: dict(state.conditions))
