"""`GcPauses`: how long the garbage collector stops the process, by generation."""

import gc
import time
from collections import deque
from typing import Any

_KEPT_PER_GENERATION = 256
_GENERATIONS = 3


class GcPauses:
    """A listener in `gc.callbacks` that only keeps durations; `take` returns them.

    The collector may run at any allocation, even while its thread holds a lock of the OpenTelemetry SDK or of
    `logging`: recording or logging in the listener could deadlock. So it takes no lock and appends a float, which the
    collector does not track. The sampler records the durations later.

    Attributes:
        total: The total duration of all collections, in seconds.
    """

    def __init__(self) -> None:
        self.total = 0.0
        self._longest = 0.0
        self._started = 0.0
        # Between two calls of `take` the newest durations of each generation are kept; total and longest include all.
        self._durations = tuple(deque[float](maxlen=_KEPT_PER_GENERATION) for _ in range(_GENERATIONS))

    def attach(self) -> None:
        """Start listening; idempotent, also in a forked process."""
        if self._listen not in gc.callbacks:
            self._started = 0.0
            gc.callbacks.append(self._listen)

    def detach(self) -> None:
        """Stop listening; idempotent."""
        if self._listen in gc.callbacks:
            gc.callbacks.remove(self._listen)

    def take(self) -> tuple[list[tuple[int, float]], float]:
        """The newest collections since the last call as (generation, seconds), and the longest pause in seconds."""
        longest, self._longest = self._longest, 0.0
        taken = []
        for generation, durations in enumerate(self._durations):
            # A collection during this loop is left for the next call.
            taken += [(generation, durations.popleft()) for _ in range(len(durations))]
        return taken, longest

    def _listen(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._started = time.perf_counter()
            return
        if not self._started:  # attached during a collection
            return
        seconds = time.perf_counter() - self._started
        self.total += seconds
        if seconds > self._longest:
            self._longest = seconds
        self._durations[info["generation"]].append(seconds)
