"""`Objectives`: the process that leads keeps the sums by which objectives are judged, and makes the answer."""

import threading
from collections.abc import Callable
from typing import Any

from otel_monitoring.alerts.manager import AlertManager
from otel_monitoring.alerts.rules.slo import wanted_sums
from otel_monitoring.forks import renewed
from otel_monitoring.guard import fail_open
from otel_monitoring.health.objectives import objectives_as_json
from otel_monitoring.metrics.event_sums import EventSums
from otel_monitoring.metrics.slices.model import FINEST
from otel_monitoring.metrics.slices.sums import EventSumsReader
from otel_monitoring.runtime.threads import in_thread

_OUT_OF_DATE = 300.0
"""Seconds after which the sums say nothing about the present: the slices cannot be read or written."""
_reading = fail_open("reading the past of objectives")


class Objectives:
    """The sums over the slices of the past, and what they mean.

    Args:
        manager: Returns the alert manager with the objectives, their rules and the store.
        leads: Whether this process leads.
        clock: Returns Unix time in seconds.
    """

    def __init__(self, manager: Callable[[], AlertManager], leads: Callable[[], bool], clock: Callable[[], float]):
        self._manager = manager
        self._leads = leads
        self._clock = clock
        self._reader = EventSumsReader()
        self._event_sums: EventSums | None = None
        self._slot: int | None = None
        self._answer: list[dict[str, Any]] | None = None
        self._lock = renewed(self, "_lock", threading.Lock)

    @property
    def due(self) -> bool:
        """Whether a slot has begun since the last time; or whether there are sums, although another process leads."""
        return FINEST.slot(self._clock()) != self._slot if self._leads() else self._event_sums is not None

    async def tick(self) -> None:
        """Read what is new where a slot has begun since the last time, in a thread. Runs in the background thread."""
        if not self._leads():
            if self._event_sums is not None:
                self._reader, self._event_sums, self._answer = EventSumsReader(), None, None
            return
        slot = FINEST.slot(self._clock())
        if slot != self._slot:
            self._slot = slot
            with _reading:
                await in_thread(self.read, name="otel-monitoring-objectives")

    def read(self) -> None:
        """Bring the sums up to date.

        Raises:
            StoreError: The store failed.
        """
        with self._lock:
            manager = self._manager()
            self._event_sums = self._reader.read(manager.store.slices, wanted_sums(manager.rules))
            self._answer = self._made(self._event_sums)

    def event_sums(self) -> EventSums | None:
        """The sums; None: they are not known, or out of date."""
        event_sums = self._event_sums
        return event_sums if event_sums is not None and self._clock() - event_sums.until < _OUT_OF_DATE else None

    def answer(self) -> list[dict[str, Any]] | None:
        """Every objective as JSON; None: nothing is known, or another process leads."""
        return self._answer if self._leads() and self.event_sums() is not None else None

    def blind(self) -> list[dict[str, Any]]:
        """Every objective as JSON, where nothing is known."""
        return self._made(None)

    def _made(self, event_sums: EventSums | None) -> list[dict[str, Any]]:
        manager = self._manager()
        return objectives_as_json(manager.slos, {rule.name: rule for rule in manager.rules}, event_sums)
