"""`Collecting`: brings the aggregator up to date, off the application's loop, one collection at a time."""

import asyncio
import threading
from contextlib import suppress

from otel_monitoring.guard import fail_open
from otel_monitoring.metrics.aggregator import Aggregator
from otel_monitoring.runtime.threads import in_thread
from otel_monitoring.runtime.worker import Worker

_ANSWER_TIMEOUT = 2.0
_FINISH_SECONDS = 0.5
_refreshing = fail_open("collecting for an answer")


class Collecting:
    """Collects in a thread of its own, because the application's observable callbacks may hang.

    Args:
        aggregator: What is brought up to date.
        worker: Where it runs.
    """

    def __init__(self, aggregator: Aggregator, worker: Worker) -> None:
        self._aggregator = aggregator
        self._worker = worker
        self._under_way: asyncio.Task[None] | None = None

    def forget(self) -> None:
        """Forget a collection that was under way in the parent process: it never ends in this one."""
        self._under_way = None

    async def collect(self) -> None:
        """Collect now, or wait for the collection that is under way. Call it in the watch thread."""
        if self._under_way is None or self._under_way.done():
            work = in_thread(self._aggregator.collect, name="otel-monitoring-collect")
            self._under_way = asyncio.ensure_future(work)
        await asyncio.shield(self._under_way)

    def finish(self) -> None:
        """Collect once more, before the reader leaves; waits half a second for the application's callbacks at most."""
        with suppress(RuntimeError):  # the interpreter is going down, and starts no more threads
            last = threading.Thread(target=self._collect, name="otel-monitoring-collect", daemon=True)
            last.start()
            last.join(_FINISH_SECONDS)

    def _collect(self) -> None:
        with _refreshing:
            self._aggregator.collect()

    async def refresh(self) -> None:
        """Have fresh measurements for an answer, from any loop; never raises.

        What hangs or fails leaves the answer with the measurements of the last sample.
        """
        if not self._worker.running or self._aggregator.fresh:
            return
        with _refreshing:
            await self._worker.call(self.collect, _ANSWER_TIMEOUT)
