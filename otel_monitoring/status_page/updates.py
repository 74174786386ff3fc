"""`Updates`: what changes on the page, made once an interval for all pages that are open."""

import asyncio
import gzip
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from otel_monitoring.redact.json_value import json_text
from otel_monitoring.runtime.threads import in_thread

INTERVAL: Final = 2.0
"""The least seconds between two updates."""
_COST_FACTOR: Final = 250
"""An update is made at most once in so many times the CPU time that it takes: 0.4 % of a core."""


@dataclass(frozen=True, slots=True)
class Body:
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
        return cls(plain, gzip.compress(plain, 5, mtime=0))


@dataclass(frozen=True, slots=True)
class Content:
    """What an update says.

    Attributes:
        figures: What changes all the time.
        routes: The names that some of the figures belong to. They change seldom, and a page that has them gets none.
        version: The version of `routes`.
    """

    figures: Mapping[str, Any]
    routes: Any
    version: str


@dataclass(frozen=True, slots=True)
class _Update:
    """A content as it is sent.

    Attributes:
        whole: With the routes.
        short: Without them.
        version: The version of the routes.
        until: Until when it is answered, in seconds of the monotonic clock.
    """

    whole: Body
    short: Body
    version: str
    until: float

    def body(self, known: str) -> Body:
        return self.short if known == self.version else self.whole


class Updates:
    """Makes updates, one at a time, each for all pages that ask within its interval.

    Args:
        make: Makes the content; it may block.
        clock: Seconds of a monotonic clock.
        cost_clock: Seconds of CPU that the calling thread has used.
    """

    def __init__(
        self,
        make: Callable[[], Content],
        clock: Callable[[], float] = time.monotonic,
        cost_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._make = make
        self._clock = clock
        self._cost_clock = cost_clock
        self._latest: _Update | None = None
        self._making: asyncio.Future[_Update] | None = None
        self._interval = INTERVAL

    def latest(self, known: str) -> Body | None:
        """The update while its interval lasts; None after that.

        Args:
            known: The version of the routes that the page has; empty: none.
        """
        latest = self._latest
        return latest.body(known) if latest is not None and self._clock() < latest.until else None

    async def next(self, known: str) -> Body:
        """The update, made anew where its interval is over; all who wait share it. One event loop calls this.

        Args:
            known: As for `latest`.
        """
        if (body := self.latest(known)) is not None:
            return body
        making = self._making
        if making is None or making.done() or making.get_loop() is not asyncio.get_running_loop():
            making = self._making = asyncio.ensure_future(in_thread(self._made, name="otel-monitoring-page"))
            # Retrieved in any case: callers may be cancelled, and asyncio logs what nobody retrieves.
            making.add_done_callback(lambda done: done.cancelled() or done.exception())
        return (await asyncio.shield(making)).body(known)

    def _made(self) -> _Update:
        began = self._cost_clock()
        content = self._make()
        figures = {**content.figures, "interval": round(self._interval, 1), "version": content.version}
        whole, short = Body.of({**figures, "routes": content.routes}), Body.of(figures)
        cost = self._cost_clock() - began
        self._interval = max(INTERVAL, _COST_FACTOR * cost)
        made = self._latest = _Update(whole, short, content.version, self._clock() + self._interval)
        return made
