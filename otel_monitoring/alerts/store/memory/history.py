"""`MemoryHistory`: the history in memory."""

from collections.abc import Sequence
from itertools import islice

from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, AlertType, Status
from otel_monitoring.alerts.store.memory.state import Access, MemoryState


class MemoryHistory:
    """An `AlertHistory` in memory."""

    def __init__(self, state: Access) -> None:
        self._state = state

    def append(self, event: AlertEvent) -> None:
        def work(state: MemoryState) -> None:
            state.add_to_history(event)
            if event.status is Status.FIRING:
                state.counts[event.type] += 1

        self._state.use(work)

    def events(
        self, *, limit: int, alert_type: AlertType | None = None, severity: AlertSeverity | None = None
    ) -> Sequence[AlertEvent]:
        def work(state: MemoryState) -> list[AlertEvent]:
            matching = (
                event
                for event in reversed(state.history)
                if alert_type in (None, event.type) and severity in (None, event.severity)
            )
            return [state.with_results(event) for event in islice(matching, limit)]

        return self._state.use(work)

    def counts(self) -> dict[AlertType, int]:
        return self._state.use(lambda state: dict(state.counts))

    def clear(self) -> None:
        def work(state: MemoryState) -> None:
            state.history.clear()
            state.results.clear()
            state.counts.clear()

        self._state.use(work)
