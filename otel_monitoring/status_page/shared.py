"""`Shared`: an answer that is made once in an interval for all who ask; `Body`: an answer as it is sent."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, NamedTuple, TypeVar

from otel_monitoring.compression import compressed
from otel_monitoring.redact.json_text import json_text
from otel_monitoring.runtime.threads import in_thread

T = TypeVar("T")

_COST_FACTOR: Final = 250
"""An answer is made at most once in so many times the CPU time that it takes: 0.4 % of a core."""


class Body(NamedTuple):
    """An answer as it is sent.

    Attributes:
        plain: JSON in UTF-8.
        compressed: The same with gzip.
    """

    plain: bytes
    compressed: bytes

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> "Body":
        """The bytes of an answer."""
        plain = json_text(answer).encode()
        return cls(plain, compressed(plain, 5, as_gzip=True))


class Shared(Generic[T]):
    """Makes an answer, once at a time, and keeps it for an interval.

    Args:
        make: Makes the answer; it may block.
        least: The least seconds of an interval; it is longer where the answer costs much.
        clock: Seconds of a monotonic clock.
        cost_clock: Seconds of CPU that the calling thread has used.

    Attributes:
        interval: Seconds of the present interval.
    """

    def __init__(
        self,
        make: Callable[[], T],
        least: float,
        clock: Callable[[], float] = time.monotonic,
        cost_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._make = make
        self._least = least
        self._clock = clock
        self._cost_clock = cost_clock
        self._kept: tuple[T, float] | None = None
        self._making: asyncio.Future[T] | None = None
        self._cost = 0.0
        self.interval = least

    def latest(self) -> T | None:
        """The answer while its interval lasts; None after that. Callable in any thread."""
        kept = self._kept
        return kept[0] if kept is not None and self._clock() < kept[1] else None

    async def next(self) -> T:
        """The answer, made anew in a thread where its interval is over. One event loop calls this."""
        latest = self.latest()
        if latest is not None:
            return latest
        making = self._making
        if making is None or making.done() or making.get_loop() is not asyncio.get_running_loop():
            making = self._making = asyncio.ensure_future(in_thread(self._made, name="otel-monitoring-page"))
            # Retrieved in any case: callers may be cancelled, and asyncio logs what nobody retrieves.
            making.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(making)

    def _made(self) -> T:
        began = self._cost_clock()
        made = self._make()
        # The cheaper of two counts: the first one also fills caches.
        before, self._cost = self._cost, self._cost_clock() - began
        self.interval = max(self._least, _COST_FACTOR * min(before, self._cost))
        self._kept = made, self._clock() + self.interval
        return made
