"""`AlertingState`: what the diagnostics say about alerts, read off every event loop: a store may take its time."""

import time
from collections.abc import Callable
from typing import Any

from otel_monitoring.alerts.manager import AlertManager
from otel_monitoring.redact import redact_error
from otel_monitoring.runtime.single_flight import SingleFlight
from otel_monitoring.runtime.worker import Worker

_ANSWER_TIMEOUT = 2.0


class AlertingState:
    """Reads the alert manager's part of the diagnostics, once at a time, however many ask.

    Args:
        manager: Returns the service's alert manager.
        worker: In its background thread all who ask wait for one reading, which has a thread of its own.
        late: Returns why alerts come late, given the monotonic time in seconds; None: they do not.
    """

    def __init__(
        self, manager: Callable[[], AlertManager], worker: Worker, late: Callable[[float], str | None] = lambda _: None
    ) -> None:
        self._manager = manager
        self._late = late
        self._worker = worker
        self._timeout = _ANSWER_TIMEOUT
        self._flight = SingleFlight(self._read, name="otel-monitoring-alert")
        self._latest: dict[str, Any] = {"alerts": [], "alerting": {"leader": None, "channels": {}}}

    def reset_after_fork(self) -> None:
        """Forget a reading that was in progress in the parent process."""
        self._flight.reset_after_fork()

    async def current(self) -> dict[str, Any]:
        """The keys `alerts` and `alerting` of the diagnostics; callable on any loop.

        Where the store fails, or takes longer than two seconds, they are as they were read last, and `store_problem`
        says why; it also says where the store is so slow that alerts come late.
        """
        if not self._worker.running:
            self._read()
            return self._latest
        timeout = self._flight.patience(self._timeout)
        try:
            await self._worker.call(self._refresh, timeout)
        except TimeoutError:
            problem = f"the store has not answered within {timeout:g} s"
        except Exception as error:  # noqa: BLE001 - of a store, or there can be no further thread
            problem = redact_error(error)
        else:
            late = self._latest["alerting"].get("store_problem") or self._late(time.monotonic())
            if late is None:
                return self._latest
            problem = late
        return {**self._latest, "alerting": {**self._latest["alerting"], "store_problem": problem}}

    async def _refresh(self) -> None:
        while not await self._flight.run(self._timeout):
            pass

    def _read(self) -> None:
        self._latest = self._manager().diagnostics()
