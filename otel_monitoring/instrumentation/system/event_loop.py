"""`LoopMonitor`: how late the application's event loop is, measured from another thread, and what blocks it."""

import asyncio
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

logger = logging.getLogger("otel_monitoring")

_MAX_FRAMES = 40
_MAX_POSITION_LENGTH = 300
_MAX_KEPT = 1024
_LOG_EVERY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Stall:
    """A time in which the loop was blocked.

    Attributes:
        since: When it was noticed to be late, in seconds of the monitor's clock; it began at most one probe before.
        seconds: How long it has lasted since then, or had lasted when it was over.
        stack: Code positions of the loop's thread while it was blocked, innermost last; no values, no source text.
        over: Whether the loop runs again.
    """

    since: float
    seconds: float
    stack: tuple[str, ...]
    over: bool


class _Probe:
    """One probe of the loop."""

    __slots__ = ("sent",)

    def __init__(self, sent: float) -> None:
        self.sent = sent


class LoopMonitor:
    """Asks an event loop, again and again, to run a callback, and measures how long that takes.

    `probe` and the readers belong to another thread than the loop's; neither ever waits for it. A loop that does not
    run is unknown, not late. Make one in each process, after a fork: best in the loop's own thread, otherwise the first
    stall before any answer has no stack.

    Args:
        loop: The loop to watch.
        stall_after: Seconds without an answer, at the time of a later probe, that make a stall.
        window: Seconds over which `max_lag` looks back.
        clock: Tells seconds; every `now` is a moment of the same clock.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        stall_after: float = 0.5,
        window: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
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
        """Probe the loop, unless a probe is still unanswered; then see whether it is stalled. Never raises or waits."""
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
        except RuntimeError:  # closed in the meantime
            self._pending = None

    def lag(self, now: float) -> float | None:
        """Seconds the loop was late at the last probe, growing while that is unanswered; None when it does not run."""
        if not self._loop.is_running():
            return None
        waited = self._waited(now)
        last = self._answers[-1][1] if self._answers else None
        return max((seconds for seconds in (waited, last) if seconds is not None), default=None)

    def max_lag(self, now: float) -> float | None:
        """The largest lag in the last `window` seconds; None when nothing was measured."""
        recent = [lag for at, lag in tuple(self._answers) if at >= now - self._window]
        waited = self._waited(now)
        if waited is not None:
            recent.append(waited)
        return max(recent, default=None)

    def stall(self, now: float) -> Stall | None:
        """The stall the loop is in, or None."""
        stall, pending = self._stall, self._pending
        if stall is None or stall.over or pending is None or not self._loop.is_running():
            return None
        return replace(stall, seconds=max(0.0, now - stall.since))

    @property
    def last_stall(self) -> Stall | None:
        """The latest stall, over or not; None when there was none."""
        return self._stall

    def as_json(self, now: float) -> dict[str, Any]:
        """`lag_seconds`, `max_lag_seconds` of the last `window_seconds`, `stalled`, `last_stall`, for an answer."""
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
        """Runs in the loop. An answer to a probe from before the loop paused says nothing about its lag."""
        if self._pending is not probe:
            return
        now = self._clock()
        self._thread_id = threading.get_ident()
        lag = max(0.0, now - probe.sent)
        self._answers.append((now, lag))
        stall = self._stall
        if stall is not None and not stall.over:
            self._stall = replace(stall, seconds=lag, over=True)
        self._pending = None

    def _note_stall(self, pending: _Probe, now: float) -> None:
        known = self._stall
        if known is not None and known.since == pending.sent:
            return
        stack = _stack_of(self._thread_id)
        if self._pending is not pending:  # it answered while we looked: the stack may already be another's
            return
        stall = self._stall = Stall(pending.sent, now - pending.sent, stack, over=False)
        if now - self._logged_at >= _LOG_EVERY_SECONDS:
            self._logged_at = now
            where = "\n  ".join(stall.stack) or "unknown"
            logger.warning("the event loop has been blocked for %.1f s, innermost last:\n  %s", stall.seconds, where)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _stack_of(thread_id: int | None) -> tuple[str, ...]:
    """The thread's stack, innermost last, at most `_MAX_FRAMES` frames."""
    # The name has an underscore, yet it is documented, and the one way to see another thread's stack.
    frame = sys._current_frames().get(thread_id) if thread_id is not None else None  # noqa: SLF001
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
