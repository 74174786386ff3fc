"""The parts in memory that are values by a key: mutes, notes, incidents, acknowledgements and conditions."""

from collections.abc import Callable, Mapping

from otel_monitoring.alerts.mute import Mute
from otel_monitoring.alerts.store.memory.state import Access, MemoryState
from otel_monitoring.alerts.store.mutes import order
from otel_monitoring.alerts.store.notes import NOTES_LIMIT, NOTES_SECONDS


class MemoryMutes:
    """`Mutes` in memory."""

    def __init__(self, state: Access) -> None:
        self._state = state

    def add(self, mute: Mute) -> None:
        def work(state: MemoryState) -> None:
            state.mutes = [other for other in state.mutes if other.key != mute.key] + [mute]

        self._state.use(work)

    def remove(self, mute: Mute) -> bool:
        def work(state: MemoryState) -> bool:
            before = state.mutes
            state.mutes = [other for other in before if other.key != mute.key]
            return len(state.mutes) < len(before)

        return self._state.use(work)

    def all(self, now: float) -> list[Mute]:
        def work(state: MemoryState) -> list[Mute]:
            state.mutes = [mute for mute in state.mutes if mute.until > now]
            return sorted(state.mutes, key=order)

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


class MemoryTexts:
    """`Texts` in memory.

    Args:
        state: How to get at the state.
        texts: Its texts.
    """

    def __init__(self, state: Access, texts: Callable[[MemoryState], dict[str, str]]) -> None:
        self._state = state
        self._texts = texts

    def saved(self) -> dict[str, str]:
        return self._state.use(lambda state: dict(self._texts(state)))

    def save(self, states: Mapping[str, str | None]) -> None:
        def work(state: MemoryState) -> None:
            texts = self._texts(state)
            for key, text in states.items():
                if text is None:
                    texts.pop(key, None)
                else:
                    texts[key] = text

        self._state.use(work)


class MemoryConditions:
    """`Conditions` in memory."""

    def __init__(self, state: Access) -> None:
        self._state = state

    def save(self, channel: str, condition: str) -> None:
        self._state.use(lambda state: state.conditions.update({channel: condition}))

    def saved(self) -> dict[str, str]:
        return self._state.use(lambda state: dict(state.conditions))
