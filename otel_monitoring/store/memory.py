"""Alert state of this process alone."""

import threading
from collections import Counter, deque
from collections.abc import Sequence
from itertools import islice

from otel_monitoring.events import AlertEvent, AlertSeverity, AlertType
from otel_monitoring.store.protocol import HISTORY_LIMIT


class MemoryStore:
    """A `Store` that is gone when the process ends."""

    def __init__(self) -> None:
        self._events: deque[AlertEvent] = deque(maxlen=HISTORY_LIMIT)
        self._counts: Counter[AlertType] = Counter()
        self._mutes: dict[AlertType, float] = {}
        self._lock = threading.Lock()

    def append(self, event: AlertEvent) -> None:
        """Add `event` to the history."""
        with self._lock:
            self._events.append(event)
            self._counts[event.type] += 1

    def events(
        self, *, limit: int, alert_type: AlertType | None = None, severity: AlertSeverity | None = None
    ) -> Sequence[AlertEvent]:
        """The newest `limit` events that match, newest first."""
        with self._lock:
            newest_first = list(reversed(self._events))
        matching = (
            event for event in newest_first if alert_type in (None, event.type) and severity in (None, event.severity)
        )
        return list(islice(matching, limit))

    def counts(self) -> dict[AlertType, int]:
        """How many events of each type the history has seen."""
        with self._lock:
            return dict(self._counts)

    def clear(self) -> None:
        """Forget history and counts."""
        with self._lock:
            self._events.clear()
            self._counts.clear()

    def mute(self, alert_type: AlertType, until: float) -> None:
        """Mute a type until `until`, in Unix seconds."""
        with self._lock:
            self._mutes[alert_type] = until

    def unmute(self, alert_type: AlertType) -> bool:
        """End a mute; False when there was none."""
        with self._lock:
            return self._mutes.pop(alert_type, None) is not None

    def mutes(self, now: float) -> dict[AlertType, float]:
        """The mutes in force at `now`."""
        with self._lock:
            self._mutes = {kind: until for kind, until in self._mutes.items() if until > now}
            return dict(self._mutes)
