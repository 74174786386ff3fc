"""`Delivery`: delivers the outbox to all channels concurrently.

An event leaves the outbox after its channel has acknowledged it, so it is delivered at least once. Only the worker that
holds a channel's lease delivers by it.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from functools import partial
from typing import Any

from otel_monitoring.alerts.model import Notification
from otel_monitoring.alerts.notify.channel_queue import ChannelQueue, Limits, OutcomeCounter, send_once, stored
from otel_monitoring.alerts.notify.channels import Channel, Repeating
from otel_monitoring.alerts.notify.origin import Origin
from otel_monitoring.alerts.store import Store
from otel_monitoring.errors import DeliveryError
from otel_monitoring.guard import fail_open
from otel_monitoring.redact import redact

_DEFAULT_LIMITS = Limits()
_LIMITS_OF_MISSING = Limits(first_delay=3600.0, longest_delay=3600.0)

_delivering = fail_open("alert delivery")
_repeating = fail_open("repeating alerts")


class Delivery:
    """Delivers to all channels concurrently: a slow or dead channel delays no other.

    It is used from one event loop at a time, and waits for the store in threads.

    Args:
        channels: The channels.
        origin: The origin of the messages.
        clock: Returns Unix time in seconds.
        limits: The limits of each channel.
        count: Counts the outcomes.
        elapsed: Returns monotonic time in seconds.
    """

    def __init__(
        self,
        channels: Sequence[Channel],
        origin: Origin,
        *,
        clock: Callable[[], float],
        limits: Limits = _DEFAULT_LIMITS,
        count: OutcomeCounter = lambda _what, _channel, _number: None,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self._origin = origin
        self._make_queue = partial(ChannelQueue, clock=clock, count=count, elapsed=elapsed)
        self._queues = {channel.name: self._make_queue(channel, limits) for channel in channels}
        self._queues_of_missing: dict[str, ChannelQueue] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._paced = True

    def pump(
        self, store: Store, waiting: Collection[str], delivers: Callable[[str], bool], *, paced: bool = True
    ) -> None:
        """Start to deliver by every idle channel that is ready; returns at once, without asking the store.

        Args:
            store: The store with the outbox.
            waiting: The channels that something waits for there.
            delivers: Whether this worker delivers by the channel of that name; asked before each message.
            paced: Whether messages keep their pauses from now on; False also holds for deliveries that run already.
        """
        self._paced = paced
        for name, queue in {**self._queues_of_missing, **self._queues}.items():
            if name in waiting and delivers(name) and self._is_idle(name) and queue.ready():
                self._start(name, self._drain(queue, store, delivers))

    def repeat(self, channel: Repeating, firing: Callable[[], Notification | None]) -> bool:
        """Start to repeat the firing alerts on a channel; returns at once, False where the channel is busy.

        The channel counts as busy meanwhile: a resolved event cannot arrive before the repetition of its alert.

        Args:
            channel: The channel.
            firing: Makes the notification, in a thread; only called where the channel is idle. None: nothing fires.
        """
        if not self._is_idle(channel.name):
            return False
        self._start(channel.name, self._send_repetition(channel, firing))
        return True

    async def flush(self, timeout: float) -> bool:
        """Wait for the running deliveries, and cancel those that take longer than `timeout` seconds.

        Returns:
            Whether all of them ended in time.
        """
        running = {task for task in self._running.values() if not task.done() and not _is_abandoned(task)}
        if not running:
            return True
        _, late = await asyncio.wait(running, timeout=timeout)
        for task in late:
            task.cancel()
        return not late

    def take_over(self, store: Store, name: str) -> None:
        """Take over a channel from another worker, whose saved condition stays while events wait."""
        if not store.outbox.pending(name, 1):
            self._queues[name].describe(store)

    def set_missing_channels(self, names: Collection[str], problem: str) -> None:
        """Set the channels that alerts wait for and no worker has: delivery fails every hour, and ends after a day.

        Args:
            names: The channels.
            problem: The error of each attempt.
        """
        known = self._queues_of_missing  # replaced as a whole: the loop that delivers reads it
        self._queues_of_missing = {
            name: known.get(name) or self._make_queue(_MissingChannel(name, problem), _LIMITS_OF_MISSING)
            for name in names
        }

    def conditions(self) -> dict[str, dict[str, Any]]:
        """`ChannelQueue.condition` of each channel in this process, by the channel's name."""
        return {name: queue.condition() for name, queue in self._queues.items()}

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = self._running[name] = asyncio.ensure_future(work)
        task.add_done_callback(partial(self._forget, name))

    def _forget(self, name: str, task: "asyncio.Task[None]") -> None:
        """Drop a finished task: its context refers to the service, which this object may outlive."""
        if self._running.get(name) is task:
            del self._running[name]

    def _is_idle(self, name: str) -> bool:
        task = self._running.get(name)
        return task is None or task.done() or _is_abandoned(task)

    async def _drain(self, queue: ChannelQueue, store: Store, delivers: Callable[[str], bool]) -> None:
        name = queue.channel.name
        with _delivering:
            still = partial(delivers, name)
            while queue.ready() and still():
                if not await queue.deliver_next(store, self._origin, paced=self._paced, delivers=still):
                    return

    async def _send_repetition(self, channel: Repeating, firing: Callable[[], Notification | None]) -> None:
        with _repeating:
            notification = await stored(firing)
            if notification is not None:
                await send_once(channel.repeat, notification, self.limits.timeout)


async def try_channels(
    channels: Sequence[Channel], notification: Notification, timeout: float
) -> dict[str, dict[str, Any]]:
    """Send `notification` through every channel concurrently, past outbox and limits.

    Args:
        channels: The channels.
        notification: What to send.
        timeout: Seconds for each channel.

    Returns:
        By channel name: `delivered`, and `error` (redacted) where it was not.
    """

    async def result_of(channel: Channel) -> dict[str, Any]:
        try:
            await send_once(channel.send, notification, timeout)
        except DeliveryError as error:
            return {"delivered": False, "error": redact(str(error))}
        return {"delivered": True}

    results = await asyncio.gather(*(result_of(channel) for channel in channels))
    return {channel.name: result for channel, result in zip(channels, results, strict=True)}


class _MissingChannel:
    """A channel that no running worker has; every attempt fails."""

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        self._problem = problem

    async def send(self, notification: Notification) -> None:
        raise DeliveryError(self._problem, retryable=True)


def _is_abandoned(task: "asyncio.Task[None]") -> bool:
    """Whether the task belongs to an event loop that does not run any more: of an earlier start, or of the parent."""
    return task.get_loop() is not asyncio.get_running_loop()
