"""`LoopMonitor`: the lag of the application's event loop, measured from another thread, and what blocks it."""

import asyncio
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple

logger = logging.getLogger("otel_monitoring")

_MAX_FRAMES = 40
_MAX_POSITION_LENGTH = 300
_MAX_KEPT = 1024
_LOG_EVERY_SECONDS = 60.0


class Stall(NamedTuple):
    """A period in which the loop was blocked.

    Attributes:
        since: When the probe that was not answered in time was sent, in seconds of the monitor's clock.
        seconds: How long the stall has lasted since then, or lasted in total.
        stack: Code positions of the loop's thread during the stall, innermost last; without values and source text.
        over: Whether the loop runs again.
        request: The request whose code ran, as `GET /route`; empty: it was none, or is not known.
    """

    since: float
    seconds: float
    stack: tuple[str, ...]
    over: bool
    request: str = ""


class _Probe:
    """One probe of the loop, and when it was sent."""

    __slots__ = ("sent",)

    def __init__(self, sent: float) -> None:
        self.sent = sent


class LoopMonitor:
    """Measures how long an event loop takes to run a callback; each call of `probe` schedules one.

    `probe` and all other methods are called in another thread than the loop's, and never wait for the loop. The lag of
    a loop that does not run is unknown. Make a monitor in each process, after a fork, best in the loop's own thread: a
    stall before the first answer has no stack otherwise.

    Args:
        loop: The event loop.
        stall_after: Seconds without an answer after which a later `probe` reports a stall.
        window: Seconds that `max_lag` covers.
        clock: A monotonic clock, in seconds; every `now` is a time of this clock.
        request_in: Returns the request whose code runs in a frame or in one that called it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        stall_after: float = 0.5,
        window: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        request_in: Callable[[FrameType], str] = lambda _: "",
    ) -> None:
        self._request_in = request_in
        self._loop = loop
        self._stall_after = stall_after
        self._window = window
        self._clock = clock
        self._thread_id = threading.get_ident() if _running_loop() is loop else None
        self._pending: _Probe | None = None
        self._answers: deque[tuple[float, float]] = deque(maxlen=_MAX_KEPT)
        self._stall: Stall | None = None
        self._logged_at = float("-inf")

    def probe(self, now: float) -> None:
        """Send a probe; while one is unanswered, check for a stall instead. Never raises, never waits."""
        if not self._loop.is_running():
            self._pending = None
            return
        pending = self._pending
        if pending is not None:
            if now - pending.sent >= self._stall_after:
                self._note_stall(pending, now)
            return
        self._pending = pending = _Probe(self._clock())
        try:
            self._loop.call_soon_threadsafe(self._answer, pending)
        except RuntimeError:  # the loop was closed meanwhile
            self._pending = None

    def lag(self, now: float) -> float | None:
        """Seconds that the last probe took, or has taken so far if it is unanswered; None if the loop does not run."""
        if not self._loop.is_running():
            return None
        waited = self._waited(now)
        last = self._answers[-1][1] if self._answers else None
        return max((seconds for seconds in (waited, last) if seconds is not None), default=None)

    def max_lag(self, now: float) -> float | None:
        """The largest lag in the last `window` seconds; None if there was no probe."""
        recent = [lag for at, lag in tuple(self._answers) if at >= now - self._window]
        waited = self._waited(now)
        if waited is not None:
            recent.append(waited)
        return max(recent, default=None)

    def stall(self, now: float) -> Stall | None:
        """The present stall; None if the loop is not blocked."""
        stall, pending = self._stall, self._pending
        if stall is None or stall.over or pending is None or not self._loop.is_running():
            return None
        return stall._replace(seconds=max(0.0, now - stall.since))

    @property
    def last_stall(self) -> Stall | None:
        """The latest stall, which may be over; None if there was none."""
        return self._stall

    def as_json(self, now: float) -> dict[str, Any]:
        """The documented block: `lag_seconds`, `max_lag_seconds`, `window_seconds`, `stalled` and `last_stall`."""
        current = self.stall(now)
        last = current or self._stall
        return {
            "lag_seconds": _rounded(self.lag(now)),
            "max_lag_seconds": _rounded(self.max_lag(now)),
            "window_seconds": self._window,
            "stalled": current is not None,
            "last_stall": last
            and {
                "seconds": _rounded(last.seconds),
                "seconds_ago": _rounded(max(0.0, now - last.since)),
                "stack": list(last.stack),
            },
        }

    def _waited(self, now: float) -> float | None:
        pending = self._pending
        return max(0.0, now - pending.sent) if pending is not None and self._loop.is_running() else None

    def _answer(self, probe: _Probe) -> None:
        """Runs in the loop. A probe from before the loop paused is ignored: it says nothing about the lag."""
        if self._pending is not probe:
            return
        now = self._clock()
        self._thread_id = threading.get_ident()
        lag = max(0.0, now - probe.sent)
        self._answers.append((now, lag))
        stall = self._stall
        if stall is not None and not stall.over:
            self._stall = stall._replace(seconds=lag, over=True)
        self._pending = None

    def _note_stall(self, pending: _Probe, now: float) -> None:
        known = self._stall
        if known is not None and known.since == pending.sent:
            return
        frame = _frame_of(self._thread_id)
        stack, request = _stack_of(frame), self._request_in(frame) if frame is not None else ""
        if self._pending is not pending:  # it was answered meanwhile: the stack may be of other code
            return
        stall = self._stall = Stall(pending.sent, now - pending.sent, stack, over=False, request=request)
        if now - self._logged_at >= _LOG_EVERY_SECONDS:
            self._logged_at = now
            where = "\n  ".join(stall.stack) or "unknown"
            logger.warning("the event loop has been blocked for %.1f s, innermost last:\n  %s", stall.seconds, where)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _frame_of(thread_id: int | None) -> FrameType | None:
    """The innermost frame of a thread."""
    # Despite its underscore the function is documented, and the only one that returns another thread's stack.
    return sys._current_frames().get(thread_id) if thread_id is not None else None  # noqa: SLF001


def _stack_of(frame: FrameType | None) -> tuple[str, ...]:
    """The code positions of a frame and those that called it, innermost last; at most the `_MAX_FRAMES` innermost."""
    positions: deque[str] = deque()
    while frame is not None and len(positions) < _MAX_FRAMES:
        positions.appendleft(_position(frame))
        frame = frame.f_back
    return tuple(positions)


def _position(frame: FrameType) -> str:
    code = frame.f_code
    name = getattr(code, "co_qualname", code.co_name)  # co_qualname: Python 3.11
    return f"{code.co_filename}:{frame.f_lineno} in {name}"[-_MAX_POSITION_LENGTH:]


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
