"""`Delivery`: brings what waits in the outbox to the channels, each on its own, until it is there.

An event leaves the outbox only after its channel has acknowledged it: it is delivered at least once. Whoever holds a
channel's lease delivers by it, so the workers of a host do not do it side by side.
"""

import asyncio
import hashlib
import json
import random
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from opentelemetry.instrumentation.utils import suppress_instrumentation

from otel_monitoring.alerts.model import AlertEvent, ChannelResult, DeliveryState, Notification, Status
from otel_monitoring.alerts.notify.channels import Channel, Repeating
from otel_monitoring.alerts.notify.order import Order, is_urgent
from otel_monitoring.alerts.store import Store
from otel_monitoring.alerts.store.protocol import Queued
from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import DeliveryError
from otel_monitoring.guard import fail_open, isolated, logger, original
from otel_monitoring.redact import printable, redact, redact_error, text_of
from otel_monitoring.timestamps import rfc3339

GIVE_UP_SECONDS = 86_400.0
"""After this long nobody wants to read an alert any more."""

_MINUTE = 60.0
_LONGEST_SPACING = 30.0
_GATHERINGS = 10
_SOONEST_AGAIN = 60.0
"""Seconds until a mail is offered again to those who were refused for now: servers that greylist ask for minutes."""

_delivering = fail_open("alert delivery")
_repeating = fail_open("repeating alerts")


@dataclass(frozen=True, slots=True)
class Limits:
    """How a channel is treated.

    Attributes:
        timeout: Seconds one attempt may take.
        batch: How many events one message holds at most; channels that people read show the first of them.
        per_minute: How many messages leave in a minute at most; what is due beyond them leaves together, later.
        spacing: Seconds between two messages, doubled with each further one within a minute: what is raised meanwhile
            leaves together. A critical alert waits for the first of these pauses at most.
        gathering: Seconds a message waits for others that are being raised; again while they come, ten times at
            most, or once with a critical alert in it.
        first_delay: Seconds until a failed attempt is repeated; doubled with each further failure.
        longest_delay: Seconds between attempts at most.
        open_after: With this many failures in a row the circuit is open: one attempt a delay shows when it closes.
            A message that failed so often is overtaken by later ones: see `Order`.
    """

    timeout: float = 10.0
    batch: int = 1000
    per_minute: int = 20
    spacing: float = 0.0
    gathering: float = 0.0
    first_delay: float = 1.0
    longest_delay: float = 300.0
    open_after: int = 3


@dataclass(frozen=True, slots=True)
class Sender:
    """Who the notifications are from.

    Attributes:
        service: `service.name`.
        environment: `deployment.environment.name`, or empty.
        version: `service.version`, or empty.
        host: The name of this host, or empty.
        url: Where people reach the service, or empty.
    """

    service: str
    environment: str = ""
    version: str = ""
    host: str = ""
    url: str = ""

    def notification(self, queued: Sequence[Queued]) -> Notification:
        """One message with these events; its id depends on them alone, so that a repetition can be recognised."""
        names = ",".join(f"{entry.event.incident}/{entry.event.time:.6f}/{entry.id}" for entry in queued)
        digest = hashlib.sha256(f"{self.service}/{self.environment}/{names}".encode()).hexdigest()
        return self.message(digest[:32], tuple(entry.event for entry in queued))

    @classmethod
    def here(cls, settings: Settings, resource: Mapping[str, object]) -> "Sender":
        """Who the attributes of a resource say it is; where they say nothing of it, this host and the settings do."""
        service, environment = (
            redact(resource.get(name, "")) for name in ("service.name", "deployment.environment.name")
        )
        # Not redacted: what tells versions and machines apart often looks like a secret.
        version = printable(text_of(resource.get("service.version") or settings.service_version or ""))
        host = printable(text_of(resource.get("host.name") or socket.gethostname()))
        return cls(service, environment, version, host, settings.public_url or "")

    def message(self, identifier: str, events: Sequence[AlertEvent]) -> Notification:
        """One message with these events, under an id of its own."""
        where = {"version": self.version, "host": self.host, "url": self.url}
        return Notification(identifier, tuple(events), self.service, self.environment, **where)


_LIMITS_OF_MISSING = Limits(first_delay=3600.0, longest_delay=3600.0)

OutcomeCounter = Callable[[str, str, int], None]
"""Counts `sent`, `failed` or `retried` for a channel by a number of events."""


class ChannelQueue:
    """One channel's way out: its attempts, its pauses, and what became of them.

    Args:
        channel: Where to.
        limits: How it is treated.
        clock: Unix time in seconds.
        count: Told what became of events.
        elapsed: Seconds of a clock that nobody sets.
    """

    def __init__(
        self,
        channel: Channel,
        limits: Limits,
        clock: Callable[[], float],
        count: OutcomeCounter,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self.channel = channel
        self._limits = limits
        self._clock = clock
        self._count = count
        self._elapsed = elapsed
        self._sent_at: deque[float] = deque(maxlen=limits.per_minute)
        self._failures = 0
        self._wait_until = 0.0
        self._later: dict[int, float] = {}
        self._given_up_at: dict[int, float] = {}
        self._partly: set[int] = set()
        self._order = Order(limits.open_after)
        self._last_error: tuple[str, float] | None = None
        self._delivered_at: float | None = None

    def ready(self) -> bool:
        """Whether a message may be sent now: no pause after a failure, and the rate limit is not reached."""
        now = self._elapsed()
        crowded = len(self._sent_at) == self._limits.per_minute and now - self._sent_at[0] < _MINUTE
        return now >= self._wait_until and not crowded

    async def attempt(self, store: Store, sender: Sender, *, paced: bool) -> bool:
        """Deliver what is next of what waits, in one message; False when there is nothing to do, or it failed.

        Args:
            store: Whose outbox they wait in.
            sender: Who they are from.
            paced: Whether the pauses between messages are kept.
        """
        name = self.channel.name
        batch = self._due(store)
        if not batch or (paced and self._pauses(batch)):
            return False
        if paced and self._limits.gathering:
            batch = await self._gathered(store, batch)
        store.tried([entry.id for entry in batch])
        self._order.begin(batch)
        batch = [replace(entry, attempts=entry.attempts + 1) for entry in batch]
        self._sent_at.append(self._elapsed())
        notification = sender.notification(batch)
        told = notification.latest() if getattr(self.channel, "latest_only", False) else notification
        try:
            await attempt(self.channel.send, told, self._limits.timeout)
        except DeliveryError as error:
            if error.partly:
                then = self._postpone(error, batch)
                store.run(lambda store: self._note_retry(store, batch, then))
                return True
            if not error.retryable and len(batch) == 1:
                why = redact(str(error))
                logger.error("%s refused an alert for good, it is given up: %s", name, why)
                self._count("failed", name, 1)
                store.run(lambda store: self._give_up(store, batch, why))
            goes_on = self._failed(error, batch)
            if error.retryable or len(batch) > 1:
                then = max(self._wait_until, self._later.get(batch[0].id, 0.0))
                store.run(lambda store: self._note_retry(store, batch, then))
            return goes_on
        self._failures, self._wait_until = 0, 0.0
        self._delivered_at = self._clock()
        store.run(lambda store: self._note_delivery(store, batch, told))
        self._count("sent", name, len(batch))
        return True

    def _note_delivery(self, store: Store, batch: Sequence[Queued], told: Notification) -> None:
        """These are delivered: what of it was told, and what a later word took the place of."""
        delivered = {id(event) for event in told.events}
        for state in (DeliveryState.DELIVERED, DeliveryState.SUPERSEDED):
            ids = [entry.id for entry in batch if (id(entry.event) in delivered) is (state is DeliveryState.DELIVERED)]
            if ids:
                store.settle(ids, ChannelResult(state, at=self._clock(), attempts=batch[0].attempts))
        self._note_told(store, batch)
        self.describe(store)

    def describe(self, store: Store) -> None:
        """Let every worker know how the channel fares."""
        store.describe(self.channel.name, json.dumps(self.condition()))

    def _note_retry(self, store: Store, batch: Sequence[Queued], then: float) -> None:
        """These are tried again; `then`: when, by the clock that nobody sets."""
        error, _ = self._last_error or ("", 0.0)
        next_attempt = self._clock() + max(0.0, then - self._elapsed())
        result = ChannelResult(
            DeliveryState.RETRYING, attempts=batch[0].attempts, next_attempt=next_attempt, error=error
        )
        store.note([entry.id for entry in batch], result)
        self.describe(store)

    def _pauses(self, batch: Sequence[Queued]) -> bool:
        """Whether these wait for others to leave with them."""
        now = self._elapsed()
        recent = [at for at in self._sent_at if now - at < _MINUTE]
        doubled = 0 if any(is_urgent(entry.event) for entry in batch) else len(recent) - 1
        return bool(recent) and now - recent[-1] < min(_LONGEST_SPACING, self._limits.spacing * 2.0**doubled)

    async def _gathered(self, store: Store, batch: list[Queued]) -> list[Queued]:
        """These with what is raised together with them: many requests, each of them telling of its own."""
        waiting = self._waiting(store)
        for _ in range(1 if any(is_urgent(entry.event) for entry in batch) else _GATHERINGS):
            before = waiting
            await asyncio.sleep(self._limits.gathering)
            waiting = self._waiting(store)
            if waiting == before:
                break
        return self._due(store) or batch

    def _waiting(self, store: Store) -> int:
        return store.backlog().get(self.channel.name, 0)

    def _due(self, store: Store) -> list[Queued]:
        """What leaves next, in one message."""
        waiting = list(store.pending(self.channel.name, self._limits.batch))
        stale = [entry for entry in waiting if self._is_too_old(entry)]
        self._forget_all_but(waiting)
        if stale:
            logger.error(
                "%s: %d alerts could not be delivered for a day and are given up", self.channel.name, len(stale)
            )
            self._count("failed", self.channel.name, len(stale))
            last = f", last: {self._last_error[0]}" if self._last_error is not None else ""
            store.run(lambda store: self._give_up(store, stale, f"not delivered for a day{last}"))
        fresh = [entry for entry in waiting if entry not in stale]
        unheard = [entry for entry in fresh if self._is_end_of_nothing(store, entry.event)]
        if unheard:
            store.settle([entry.id for entry in unheard], self._given_up_for("its beginning was given up"))
        now = self._elapsed()
        resting = {number for number, until in self._later.items() if until > now}
        some_have = resting & self._partly  # they hold nothing up
        wanting = [entry for entry in fresh if entry not in unheard and entry.id not in some_have]
        return self._order.next(wanting, resting)

    def _is_too_old(self, entry: Queued) -> bool:
        """Whether it has waited for a day; from the first look on in time that passed, whatever the clock is set to."""
        left = GIVE_UP_SECONDS - max(0.0, self._clock() - entry.queued_at)
        return self._elapsed() > self._given_up_at.setdefault(entry.id, self._elapsed() + left)

    def _forget_all_but(self, waiting: Sequence[Queued]) -> None:
        known = {entry.id for entry in waiting}
        for noted in (self._given_up_at, self._later):
            for gone in noted.keys() - known:
                del noted[gone]
        self._partly &= known

    # Nobody hears of the end of what he was never told: incidents whose firing was given up are noted

    def _give_up(self, store: Store, entries: Sequence[Queued], why: str) -> None:
        for entry in entries:
            if entry.event.status is Status.FIRING and entry.event.incident:
                store.note_notified(self._given_up(entry.event), self._clock())
        result = self._given_up_for(why, max(entry.attempts for entry in entries))
        store.settle([entry.id for entry in entries], result)
        self.describe(store)

    def _given_up_for(self, why: str, attempts: int = 0) -> ChannelResult:
        return ChannelResult(DeliveryState.GIVEN_UP, at=self._clock(), attempts=attempts, error=why)

    def _note_told(self, store: Store, entries: Sequence[Queued]) -> None:
        """A repetition may arrive where the first message did not."""
        for entry in entries:
            if entry.event.status is Status.FIRING and store.notified_at(self._given_up(entry.event)):
                store.note_notified(self._given_up(entry.event), 0.0)

    def _is_end_of_nothing(self, store: Store, event: AlertEvent) -> bool:
        return event.status is Status.RESOLVED and bool(store.notified_at(self._given_up(event)))

    def _given_up(self, event: AlertEvent) -> str:
        return f"given up:{self.channel.name}:{event.incident}"

    def _postpone(self, error: DeliveryError, batch: Sequence[Queued]) -> float:
        """Some have it. The others get it later, and what waits behind it goes on; returns when."""
        self._last_error = (redact(str(error)), self._clock())
        self._partly.update(entry.id for entry in batch)
        until = self._rest(batch, _SOONEST_AGAIN)
        self._count("retried", self.channel.name, len(batch))
        logger.warning("%s; it is tried again for them", self._last_error[0])
        return until

    def _rest(self, batch: Sequence[Queued], soonest: float) -> float:
        """Try these later, the later the oftener they were tried; returns when, by the clock that nobody sets."""
        tries = max(entry.attempts for entry in batch) - 1
        delay = min(self._limits.longest_delay, max(soonest, self._limits.first_delay * 2.0 ** min(tries, 16)))
        until = self._elapsed() + delay
        self._later.update(dict.fromkeys((entry.id for entry in batch), until))
        return until

    def _failed(self, error: DeliveryError, batch: Sequence[Queued]) -> bool:
        """Whether what waits behind it is tried at once: it fails by itself where others were delivered meanwhile."""
        works = self._delivered_at is not None and not self._failures
        by_itself = works and error.retryable and not error.retry_after and batch[0].attempts > 1
        self._last_error = (redact(str(error)), self._clock())
        if error.retryable:
            self._order.failed(batch, alone=by_itself)
            self._count("retried", self.channel.name, len(batch))
            logger.warning("%s: attempt %d failed: %s", self.channel.name, batch[0].attempts, self._last_error[0])
        elif len(batch) > 1:  # one bad event, or too many: neither must hold up the others
            self._order.divide(batch)
        if by_itself:
            self._rest(batch, self._limits.first_delay)
            return True
        self._failures += 1
        delay = min(self._limits.longest_delay, self._limits.first_delay * 2.0 ** min(self._failures - 1, 16))
        if not error.retryable:
            delay = 0.0 if len(batch) == 1 else self._limits.first_delay
        jittered = delay * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, guards nothing
        self._wait_until = self._elapsed() + max(jittered, min(error.retry_after or 0.0, GIVE_UP_SECONDS))
        return False

    def condition(self) -> dict[str, Any]:
        """`state` (`ok`, `retrying`, `open`: the circuit), `failures` in a row, times of what happened."""
        state = "ok" if not self._failures else "open" if self._failures >= self._limits.open_after else "retrying"
        answer: dict[str, Any] = {"state": state, "failures": self._failures}
        if self._delivered_at is not None:
            answer["last_delivered"] = rfc3339(self._delivered_at)
        if self._last_error is not None:
            answer["last_error"], answer["last_error_time"] = self._last_error[0], rfc3339(self._last_error[1])
        if self._failures and self._wait_until:
            answer["next_attempt"] = rfc3339(self._clock() + self._wait_until - self._elapsed())
        return answer


class Delivery:
    """All channels side by side: one that is dead or slow delays no other. Belongs to one event loop at a time.

    Args:
        channels: Where alerts go.
        sender: Who they are from.
        clock: Unix time in seconds.
        limits: How channels are treated.
        count: Told what became of events.
        elapsed: Seconds of a clock that nobody sets.
    """

    def __init__(
        self,
        channels: Sequence[Channel],
        sender: Sender,
        *,
        clock: Callable[[], float],
        limits: Limits = Limits(),
        count: OutcomeCounter = lambda _what, _channel, _number: None,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self._sender = sender
        self._line = partial(ChannelQueue, clock=clock, count=count, elapsed=elapsed)
        self._lines = {channel.name: self._line(channel, limits) for channel in channels}
        self._stand_ins: dict[str, ChannelQueue] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._paced = True

    def pump(self, store: Store, leads: Callable[[str], bool], *, paced: bool = True) -> None:
        """Begin to deliver on every channel that is open and idle; returns at once.

        Args:
            store: Whose outbox is emptied.
            leads: Asked before each message: whether this worker still is the one that delivers by a channel.
            paced: Whether messages keep their pauses, from now on; a later call delivers what they hold back.
        """
        self._paced = paced
        for name, line in {**self._stand_ins, **self._lines}.items():
            if leads(name) and self._idle(name) and line.ready():
                self._run(name, self._drain(line, store, leads))

    def repeat(self, channel: Repeating, held: Callable[[], Notification | None]) -> bool:
        """Begin to tell a channel again what it holds; returns at once, False while it is busy.

        Nothing else leaves by this channel meanwhile: the end of an alert never arrives before its repetition.

        Args:
            channel: Whom.
            held: What it holds now; not asked while it is busy.
        """
        if not self._idle(channel.name):
            return False
        notification = held()
        if notification is not None:
            self._run(channel.name, self._again(channel, notification))
        return True

    def _run(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = self._running[name] = asyncio.ensure_future(work)
        task.add_done_callback(partial(self._ended, name))

    def _ended(self, name: str, task: "asyncio.Task[None]") -> None:
        """Forget it: its context keeps the service whose work it was, which this one may outlive."""
        if self._running.get(name) is task:
            del self._running[name]

    def _idle(self, name: str) -> bool:
        task = self._running.get(name)
        return task is None or task.done() or _abandoned(task)

    async def flush(self, timeout: float) -> bool:
        """Wait for what is under way; False when it is not over after `timeout` seconds: it is then cancelled."""
        running = {task for task in self._running.values() if not task.done() and not _abandoned(task)}
        if not running:
            return True
        _, late = await asyncio.wait(running, timeout=timeout)
        for task in late:
            task.cancel()
        return not late

    def begin(self, store: Store, name: str) -> None:
        """This worker sends by a channel from now on: what a former one said of it holds while something waits."""
        if not store.pending(name, 1):
            self._lines[name].describe(store)

    def set_missing_channels(self, names: Collection[str], problem: str) -> None:
        """What waits for channels that no worker has is tried as for any other, which fails, and given up after a day.

        Args:
            names: The channels.
            problem: What is said of it.
        """
        for gone in self._stand_ins.keys() - set(names):
            del self._stand_ins[gone]
        for name in names:
            self._stand_ins.setdefault(name, self._line(_Missing(name, problem), _LIMITS_OF_MISSING))

    def conditions(self) -> dict[str, dict[str, Any]]:
        """How each channel fares, as far as it was used here."""
        return {name: line.condition() for name, line in self._lines.items()}

    async def _drain(self, line: ChannelQueue, store: Store, leads: Callable[[str], bool]) -> None:
        name = line.channel.name
        with _delivering:
            while line.ready() and leads(name) and await line.attempt(store, self._sender, paced=self._paced):
                pass

    async def _again(self, channel: Repeating, notification: Notification) -> None:
        with _repeating:
            await attempt(channel.repeat, notification, self.limits.timeout)


async def attempt(send: Callable[[Notification], Awaitable[None]], notification: Notification, timeout: float) -> None:
    """One attempt to `send`, outside the application's own telemetry.

    Raises:
        DeliveryError: It failed, whatever the channel raised, or took longer than `timeout` seconds.
    """
    try:
        with suppress_instrumentation():
            await asyncio.wait_for(isolated(lambda: send(notification)), timeout)
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


class _Missing:
    """A channel that no running worker has."""

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        self._problem = problem

    async def send(self, notification: Notification) -> None:
        raise DeliveryError(self._problem, retryable=True)


def _abandoned(task: "asyncio.Task[None]") -> bool:
    """Whether the task belongs to another loop, which does not run it any more: that of a former start, or a parent."""
    return task.get_loop() is not asyncio.get_running_loop()
