"""`Delivery`: brings what waits in the outbox to the channels, each on its own, until it is there.

An event leaves the outbox only after its channel has acknowledged it: it is delivered at least once. Whoever holds the
store's lease delivers, so the workers of a host do not do it side by side.
"""

import asyncio
import hashlib
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from opentelemetry.instrumentation.utils import suppress_instrumentation

from otel_monitoring.alerts.channels import Channel
from otel_monitoring.errors import DeliveryError
from otel_monitoring.events import Notification, rfc3339
from otel_monitoring.guard import apart, contained, logger, original
from otel_monitoring.redact import redact, redact_error
from otel_monitoring.store import Store
from otel_monitoring.store.protocol import Queued

GIVE_UP_SECONDS = 86_400.0
"""After this long nobody wants to read an alert any more."""

_delivering = contained("alert delivery")


@dataclass(frozen=True, slots=True)
class Limits:
    """How a channel is treated.

    Attributes:
        timeout: Seconds one attempt may take.
        batch: How many events one message holds at most.
        per_minute: How many messages leave in a minute at most; what is due beyond them leaves together, later.
        first_delay: Seconds until a failed attempt is repeated; doubled with each further failure.
        longest_delay: Seconds between attempts at most.
        open_after: With this many failures in a row the circuit is open: one attempt a delay shows when it closes.
    """

    timeout: float = 10.0
    batch: int = 20
    per_minute: int = 20
    first_delay: float = 1.0
    longest_delay: float = 300.0
    open_after: int = 3


@dataclass(frozen=True, slots=True)
class Sender:
    """Who the notifications are from.

    Attributes:
        service: `service.name`.
        environment: `deployment.environment.name`, or empty.
    """

    service: str
    environment: str = ""

    def notification(self, queued: Sequence[Queued]) -> Notification:
        """One message with these events; its id depends on them alone, so that a repetition can be recognised."""
        names = ",".join(f"{entry.event.incident}/{entry.event.time:.6f}/{entry.id}" for entry in queued)
        digest = hashlib.sha256(f"{self.service}/{self.environment}/{names}".encode()).hexdigest()
        return Notification(digest[:32], tuple(entry.event for entry in queued), self.service, self.environment)


Count = Callable[[str, str, int], None]
"""Counts `sent`, `failed` or `retried` for a channel by a number of events."""


class Line:
    """One channel's way out: its attempts, its pauses, and what became of them.

    Args:
        channel: Where to.
        limits: How it is treated.
        clock: Unix time in seconds.
        count: Told what became of events.
    """

    def __init__(self, channel: Channel, limits: Limits, clock: Callable[[], float], count: Count) -> None:
        self.channel = channel
        self._limits = limits
        self._clock = clock
        self._count = count
        self._sent_at: deque[float] = deque(maxlen=limits.per_minute)
        self._failures = 0
        self._wait_until = 0.0
        self._singly = False
        self._last_error: tuple[str, float] | None = None
        self._delivered_at: float | None = None

    @property
    def open(self) -> bool:
        """Whether the channel may be used now: neither after a failure nor at its rate limit."""
        now = self._clock()
        if self._wait_until - now > self._limits.longest_delay * 1.5:
            self._wait_until = now  # the clock went back
        crowded = len(self._sent_at) == self._limits.per_minute and 0 <= now - self._sent_at[0] < 60
        return now >= self._wait_until and not crowded

    async def attempt(self, store: Store, sender: Sender) -> bool:
        """Deliver the oldest events that wait, in one message; False when there is nothing to do, or it failed."""
        name = self.channel.name
        batch = self._due(store)
        if not batch:
            return False
        ids = [entry.id for entry in batch]
        store.tried(ids)
        self._sent_at.append(self._clock())
        try:
            await attempt(self.channel.send, sender.notification(batch), self._limits.timeout)
        except DeliveryError as error:
            self._failed(error, batch)
            if not error.retryable and len(batch) == 1:
                logger.error("%s refused an alert for good, it is given up: %s", name, self._last_error)
                self._count("failed", name, 1)
                store.settle(ids)
            return False
        store.settle(ids)
        self._failures, self._wait_until, self._singly = 0, 0.0, False
        self._delivered_at = self._clock()
        self._count("sent", name, len(batch))
        return True

    def _due(self, store: Store) -> list[Queued]:
        """The oldest that wait; those that were tried together before stay together, and so keep their message's id."""
        waiting = list(store.pending(self.channel.name, 1 if self._singly else self._limits.batch))
        stale = [entry for entry in waiting if self._clock() - entry.queued_at > GIVE_UP_SECONDS]
        if stale:
            logger.error(
                "%s: %d alerts could not be delivered for a day and are given up", self.channel.name, len(stale)
            )
            self._count("failed", self.channel.name, len(stale))
            store.settle([entry.id for entry in stale])
        fresh = [entry for entry in waiting if entry not in stale]
        return list(takewhile(lambda entry: entry.attempts == fresh[0].attempts, fresh))

    def _failed(self, error: DeliveryError, batch: Sequence[Queued]) -> None:
        now = self._clock()
        self._failures += 1
        self._last_error = (redact(str(error)), now)
        # One bad event must not hold up those it shares a message with.
        self._singly = not error.retryable
        delay = min(self._limits.longest_delay, self._limits.first_delay * 2.0 ** min(self._failures - 1, 16))
        if not error.retryable:
            delay = 0.0 if len(batch) == 1 else self._limits.first_delay
        jittered = delay * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, guards nothing
        self._wait_until = now + max(jittered, min(error.retry_after or 0.0, GIVE_UP_SECONDS))
        if error.retryable:
            self._count("retried", self.channel.name, len(batch))
            logger.warning("%s: attempt %d failed: %s", self.channel.name, self._failures, self._last_error[0])

    def as_json(self, pending: int) -> dict[str, Any]:
        """`state` (`ok`, `retrying`, `open`: the circuit), `pending`, `failures` in a row, times of what happened."""
        state = "ok" if not self._failures else "open" if self._failures >= self._limits.open_after else "retrying"
        answer: dict[str, Any] = {"state": state, "pending": pending, "failures": self._failures}
        if self._delivered_at is not None:
            answer["last_delivered"] = rfc3339(self._delivered_at)
        if self._last_error is not None:
            answer["last_error"], answer["last_error_time"] = self._last_error[0], rfc3339(self._last_error[1])
        if self._failures and self._wait_until:
            answer["next_attempt"] = rfc3339(self._wait_until)
        return answer


class Delivery:
    """All channels side by side: one that is dead or slow delays no other. Belongs to one event loop at a time.

    Args:
        channels: Where alerts go.
        sender: Who they are from.
        clock: Unix time in seconds.
        limits: How channels are treated.
        count: Told what became of events.
    """

    def __init__(
        self,
        channels: Sequence[Channel],
        sender: Sender,
        *,
        clock: Callable[[], float],
        limits: Limits = Limits(),
        count: Count = lambda _what, _channel, _number: None,
    ) -> None:
        self.limits = limits
        self._sender = sender
        self._lines = {channel.name: Line(channel, limits, clock, count) for channel in channels}
        self._running: dict[str, asyncio.Task[None]] = {}

    def pump(self, store: Store, leads: Callable[[], bool]) -> None:
        """Begin to deliver on every channel that is open and idle; returns at once.

        Args:
            store: Whose outbox is emptied.
            leads: Asked before each message: whether this worker still is the one that delivers.
        """
        for name, line in self._lines.items():
            task = self._running.get(name)
            if (task is None or task.done() or _abandoned(task)) and line.open:
                self._running[name] = asyncio.ensure_future(self._drain(line, store, leads))

    async def flush(self, timeout: float) -> bool:
        """Wait for what is under way; False when it is not over after `timeout` seconds: it is then cancelled."""
        running = {task for task in self._running.values() if not task.done() and not _abandoned(task)}
        if not running:
            return True
        _, late = await asyncio.wait(running, timeout=timeout)
        for task in late:
            task.cancel()
        return not late

    def as_json(self, backlog: dict[str, int]) -> dict[str, dict[str, Any]]:
        """Each channel's `Line.as_json`.

        Args:
            backlog: How many events wait, by channel.
        """
        return {name: line.as_json(backlog.get(name, 0)) for name, line in self._lines.items()}

    async def _drain(self, line: Line, store: Store, leads: Callable[[], bool]) -> None:
        with _delivering:
            while line.open and leads() and await line.attempt(store, self._sender):
                pass


async def attempt(send: Callable[[Notification], Awaitable[None]], notification: Notification, timeout: float) -> None:
    """One attempt to `send`, outside the application's own telemetry.

    Raises:
        DeliveryError: It failed, whatever the channel raised, or took longer than `timeout` seconds.
    """
    try:
        with suppress_instrumentation():
            await asyncio.wait_for(apart(lambda: send(notification)), timeout)
    except DeliveryError:
        raise
    except asyncio.TimeoutError:
        raise DeliveryError(f"no answer within {timeout:g} s", retryable=True) from None
    except Exception as error:
        raise DeliveryError(redact_error(original(error)), retryable=True) from error


async def trial(channels: Sequence[Channel], notification: Notification, timeout: float) -> dict[str, dict[str, Any]]:
    """Send `notification` through every channel, side by side, past outbox and limits.

    Returns:
        By channel name: `delivered`, and `error` (redacted) where it was not.
    """

    async def result_of(channel: Channel) -> dict[str, Any]:
        try:
            await attempt(channel.send, notification, timeout)
        except DeliveryError as error:
            return {"delivered": False, "error": redact(str(error))}
        return {"delivered": True}

    results = await asyncio.gather(*(result_of(channel) for channel in channels))
    return {channel.name: result for channel, result in zip(channels, results, strict=True)}


def _abandoned(task: "asyncio.Task[None]") -> bool:
    """Whether the task belongs to another loop, which does not run it any more: that of a former start, or a parent."""
    return task.get_loop() is not asyncio.get_running_loop()
