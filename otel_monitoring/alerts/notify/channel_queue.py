"""`ChannelQueue`: the delivery of the outbox to one channel: batches, pauses, retries, and what is given up."""

import asyncio
import json
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

from otel_monitoring.alerts.model import AlertEvent, ChannelResult, DeliveryState, Notification, Status
from otel_monitoring.alerts.notify.channels import Channel
from otel_monitoring.alerts.notify.delivery_order import DeliveryOrder, is_urgent
from otel_monitoring.alerts.notify.origin import Origin
from otel_monitoring.alerts.store import Store
from otel_monitoring.alerts.store.outbox import Queued
from otel_monitoring.errors import DeliveryError
from otel_monitoring.guard import isolated, logger, original
from otel_monitoring.redact import redact, redact_error
from otel_monitoring.runtime.suppression import suppress_instrumentation
from otel_monitoring.runtime.threads import NoThreadError, in_thread
from otel_monitoring.timestamps import rfc3339

T = TypeVar("T")

GIVE_UP_SECONDS = 86_400.0
"""An alert is given up after this long in the outbox: it is out of date."""

_MINUTE = 60.0
_LONGEST_SPACING = 30.0
_MOST_GATHERINGS = 10
_PARTLY_RETRY_SECONDS = 60.0
"""Seconds until a mail is retried for recipients that were refused for now: greylisting servers ask for minutes."""


class Limits(NamedTuple):
    """The limits of a channel.

    Attributes:
        timeout: Seconds that one attempt may take.
        batch: The most events in one message; channels for people show only the first of them.
        per_minute: The most messages per minute; further events wait and leave together.
        spacing: Seconds between two messages, doubled with each further message within a minute; events that are raised
            meanwhile leave together. A critical alert waits only for `spacing` itself.
        gathering: Seconds that a message waits for further events; repeated while there are some, at most ten times,
            with a critical alert once.
        first_delay: Seconds until the first retry, doubled with each further failure.
        longest_delay: The most seconds between two attempts.
        open_after: Failures in a row after which the circuit is open: one attempt per delay then probes the channel.
            Later messages overtake a message that failed so often: see `DeliveryOrder`.
    """

    timeout: float = 10.0
    batch: int = 1000
    per_minute: int = 20
    spacing: float = 0.0
    gathering: float = 0.0
    first_delay: float = 1.0
    longest_delay: float = 300.0
    open_after: int = 3


OutcomeCounter = Callable[[str, str, int], None]
"""Counts events: `sent`, `failed` or `retried`; the channel's name; how many."""


class ChannelQueue:
    """Delivers the events that wait for one channel, one message after the other. It waits for the store in threads.

    Args:
        channel: The channel.
        limits: Its limits.
        clock: Returns Unix time in seconds.
        count: Counts the outcomes.
        elapsed: Returns monotonic time in seconds.
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
        self._order = DeliveryOrder(limits.open_after)
        self._sent_at: deque[float] = deque(maxlen=limits.per_minute)
        self._failures = 0
        self._last_error: tuple[str, float] | None = None
        self._delivered_at: float | None = None
        self._wait_until = 0.0
        """The monotonic time of the channel's next attempt."""
        # By the ids of events; times are monotonic.
        self._retry_at: dict[int, float] = {}
        self._give_up_at: dict[int, float] = {}
        self._partly_delivered: set[int] = set()
        """Events that some recipients have."""
        self._outdated: set[int] = set()
        """Partly delivered events that the missing recipients do not get any more."""
        self._errors: dict[int, str] = {}

    def ready(self) -> bool:
        """Whether a message may be sent now: no retry delay runs, and the rate limit is not reached."""
        now = self._elapsed()
        rate_limited = len(self._sent_at) == self._limits.per_minute and now - self._sent_at[0] < _MINUTE
        return now >= self._wait_until and not rate_limited

    async def deliver_next(
        self, store: Store, origin: Origin, *, paced: bool, delivers: Callable[[], bool] = lambda: True
    ) -> bool:
        """Send one message with the events that are due; returns whether another message may follow at once.

        Args:
            store: The store with the outbox.
            origin: The origin of the message.
            paced: Whether to keep the pauses between messages.
            delivers: Whether this worker still delivers by the channel; asked last, because the store may be slow.
        """
        batch = await stored(lambda: self._due(store))
        if not batch or (paced and self._is_pausing(batch)):
            return False
        if paced and self._limits.gathering:
            batch = await self._gather(store, batch)
        batch = await stored(partial(self._marked_as_tried, store, batch))
        if not batch or not delivers():
            return False
        self._order.begin(batch)
        self._sent_at.append(self._elapsed())
        sent = self._notification(origin, batch)
        try:
            if sent.events:
                await send_once(self.channel.send, sent, self._limits.timeout)
        except DeliveryError as error:
            return await stored(partial(self._handle_failure, store, error, batch))
        self._failures, self._wait_until = 0, 0.0
        self._delivered_at = self._clock()
        self._order.delivered()
        await stored(partial(self._handle_success, store, batch, sent))
        return True

    def condition(self) -> dict[str, Any]:
        """The state of the channel, for the diagnostics.

        `state` is `ok`, `retrying` or `open` (the circuit), `failures` counts failures in a row. `last_delivered`,
        `last_error`, `last_error_time` and `next_attempt` are there where they are known; times as RFC 3339.
        """
        state = "ok" if not self._failures else "open" if self._failures >= self._limits.open_after else "retrying"
        answer: dict[str, Any] = {"state": state, "failures": self._failures}
        if self._delivered_at is not None:
            answer["last_delivered"] = rfc3339(self._delivered_at)
        if self._last_error is not None:
            answer["last_error"], answer["last_error_time"] = self._last_error[0], rfc3339(self._last_error[1])
        if self._failures and self._wait_until:
            answer["next_attempt"] = rfc3339(self._clock() + self._wait_until - self._elapsed())
        return answer

    def describe(self, store: Store) -> None:
        """Save the condition in the store, for the diagnostics of every worker."""
        store.conditions.save(self.channel.name, json.dumps(self.condition()))

    # Which events leave next

    def _due(self, store: Store) -> list[Queued]:
        """The events of the next message. Events that are out of date are given up."""
        waiting = list(store.outbox.pending(self.channel.name, self._limits.batch))
        stale = [entry for entry in waiting if self._is_stale(entry)]
        self._forget_all_but(waiting)
        if stale:
            logger.error(
                "%s: %d alerts were not delivered within a day and are given up", self.channel.name, len(stale)
            )
            self._count("failed", self.channel.name, len(stale))
            by_reason: dict[str, list[Queued]] = {}
            for entry in stale:
                by_reason.setdefault(f"not delivered for a day{self._last_error_of(entry)}", []).append(entry)
            for why, entries in by_reason.items():
                store.run(partial(self._give_up, entries=entries, why=why))
        fresh = [entry for entry in waiting if entry not in stale]
        startless = [entry for entry in fresh if self._is_end_without_start(store, entry.event)]
        if startless:
            store.outbox.settle([entry.id for entry in startless], self._given_up_because("its beginning was given up"))
        now = self._elapsed()
        not_due = {number for number, at in self._retry_at.items() if at > now}
        candidates = [entry for entry in fresh if entry not in startless]
        # Events that some recipients have do not hold up the events behind them.
        return self._order.next(candidates, not_due, not_blocking=not_due & self._partly_delivered)

    def _marked_as_tried(self, store: Store, batch: Sequence[Queued]) -> list[Queued]:
        """The batch as it is now: a full outbox may have left out events since they were read, and counted them."""
        ids = {entry.id for entry in batch}

        def mark(store: Store) -> list[Queued]:
            store.outbox.tried(ids)
            return [entry for entry in store.outbox.pending(self.channel.name, self._limits.batch) if entry.id in ids]

        return store.run(mark)

    def _notification(self, origin: Origin, batch: Sequence[Queued]) -> Notification:
        """The message of a batch without its outdated events; its id is that of the whole batch and stays constant."""
        notification = origin.notification(batch)
        if getattr(self.channel, "latest_only", False):
            notification = notification.latest()
        outdated = {id(entry.event) for entry in batch if entry.id in self._outdated}
        return replace(notification, events=tuple(event for event in notification.events if id(event) not in outdated))

    def _outdated_by(self, store: Store, batch: Sequence[Queued]) -> set[int]:
        """The partly delivered events that the batch makes outdated: it contains later events of their incidents."""
        incidents = {entry.event.incident for entry in batch if entry.event.incident}
        waiting = store.outbox.pending(self.channel.name, self._limits.batch) if self._partly_delivered else ()
        earlier = (entry for entry in waiting if entry.id in self._partly_delivered and entry.id < batch[0].id)
        return {entry.id for entry in earlier if entry.event.incident in incidents}

    def _last_error_of(self, entry: Queued) -> str:
        """The end of a sentence: the last error of the event, or of the channel while it fails; else empty."""
        why = self._errors.get(entry.id, self._last_error[0] if self._last_error and self._failures else "")
        return f", last: {why}" if why else ""

    def _is_stale(self, entry: Queued) -> bool:
        """Whether the event has waited for `GIVE_UP_SECONDS`; monotonic from the first call on."""
        left = GIVE_UP_SECONDS - max(0.0, self._clock() - entry.queued_at)
        return self._elapsed() > self._give_up_at.setdefault(entry.id, self._elapsed() + left)

    def _forget_all_but(self, waiting: Sequence[Queued]) -> None:
        ids = {entry.id for entry in waiting}
        for noted in (self._give_up_at, self._retry_at, self._errors):
            for gone in noted.keys() - ids:
                del noted[gone]
        self._partly_delivered &= ids
        self._outdated &= ids

    def _is_pausing(self, batch: Sequence[Queued]) -> bool:
        """Whether the pause after the last message still runs, in which further events may join."""
        now = self._elapsed()
        recent = [at for at in self._sent_at if now - at < _MINUTE]
        doublings = 0 if any(is_urgent(entry.event) for entry in batch) else len(recent) - 1
        return bool(recent) and now - recent[-1] < min(_LONGEST_SPACING, self._limits.spacing * 2.0**doublings)

    async def _gather(self, store: Store, batch: list[Queued]) -> list[Queued]:
        """Wait for events that are raised at the same time, as by many requests that fail, and add them."""
        count = await stored(lambda: self._count_waiting(store))
        for _ in range(1 if any(is_urgent(entry.event) for entry in batch) else _MOST_GATHERINGS):
            before = count
            await asyncio.sleep(self._limits.gathering)
            count = await stored(lambda: self._count_waiting(store))
            if count == before:
                break
        return await stored(lambda: self._due(store)) or batch

    def _count_waiting(self, store: Store) -> int:
        return store.outbox.backlog().get(self.channel.name, 0)

    # After a delivery

    def _handle_success(self, store: Store, batch: Sequence[Queued], sent: Notification) -> None:
        self._outdated |= self._outdated_by(store, batch)
        store.run(lambda store: self._note_delivery(store, batch, sent))
        self._count("sent", self.channel.name, len(batch))

    def _note_delivery(self, store: Store, batch: Sequence[Queued], sent: Notification) -> None:
        """Remove the batch from the outbox; events that `sent` does not contain were superseded by later ones."""
        delivered = {id(event) for event in sent.events}
        for state in (DeliveryState.DELIVERED, DeliveryState.SUPERSEDED):
            entries = [entry for entry in batch if (id(entry.event) in delivered) is (state is DeliveryState.DELIVERED)]
            store.outbox.arrived(entries, ChannelResult(state, at=self._clock(), attempts=batch[0].attempts))
        for entry in batch:  # a repetition may arrive where the first notification was given up
            if entry.event.status is Status.FIRING and store.notes.noted_at(self._give_up_key(entry.event)):
                store.notes.note(self._give_up_key(entry.event), 0.0)
        self.describe(store)

    # After a failure

    def _handle_failure(self, store: Store, error: DeliveryError, batch: Sequence[Queued]) -> bool:
        """Schedule the retry, or give up; returns whether another message may follow at once."""
        why = redact(str(error))
        self._last_error = (why, self._clock())
        self._errors.update(dict.fromkeys((entry.id for entry in batch), why))
        if error.partly:
            self._outdated |= self._outdated_by(store, batch)
            retry_at = self._postpone_partly(batch, why)
            store.run(lambda store: self._note_retry(store, batch, retry_at))
            return True
        if not error.retryable and len(batch) == 1:
            logger.error("%s: an alert was refused permanently and is given up: %s", self.channel.name, why)
            self._count("failed", self.channel.name, 1)
            store.run(lambda store: self._give_up(store, batch, why))
        another = self._back_off(error, batch, why)
        if error.retryable or len(batch) > 1:
            retry_at = max(self._wait_until, self._retry_at.get(batch[0].id, 0.0))
            store.run(lambda store: self._note_retry(store, batch, retry_at))
        return another

    def _postpone_partly(self, batch: Sequence[Queued], why: str) -> float:
        """Postpone the retry for the missing recipients; returns its monotonic time."""
        self._partly_delivered.update(entry.id for entry in batch)
        retry_at = self._postpone(batch, _PARTLY_RETRY_SECONDS)
        self._count("retried", self.channel.name, len(batch))
        logger.warning("%s; the delivery to them is retried", why)
        return retry_at

    def _postpone(self, batch: Sequence[Queued], shortest: float) -> float:
        """Postpone the retry of these events, longer with each attempt; returns its monotonic time.

        Args:
            batch: The events.
            shortest: The least seconds until the retry.
        """
        retries = max(entry.attempts for entry in batch) - 1
        delay = min(self._limits.longest_delay, max(shortest, self._limits.first_delay * 2.0 ** min(retries, 16)))
        retry_at = self._elapsed() + delay
        self._retry_at.update(dict.fromkeys((entry.id for entry in batch), retry_at))
        return retry_at

    def _back_off(self, error: DeliveryError, batch: Sequence[Queued], why: str) -> bool:
        """Delay the channel, or only the batch where the channel delivers others; returns whether others may follow."""
        works = self._delivered_at is not None and not self._failures
        batch_alone = works and error.retryable and not error.retry_after and batch[0].attempts > 1
        if error.retryable:
            self._order.failed(batch, alone=batch_alone)
            self._count("retried", self.channel.name, len(batch))
            logger.warning("%s: attempt %d failed: %s", self.channel.name, batch[0].attempts, why)
        elif len(batch) > 1:  # one bad event, or too many events: both halves are tried
            self._order.divide(batch)
        if batch_alone:
            self._postpone(batch, self._limits.first_delay)
            return True
        self._failures += 1
        delay = min(self._limits.longest_delay, self._limits.first_delay * 2.0 ** min(self._failures - 1, 16))
        if not error.retryable:
            delay = 0.0 if len(batch) == 1 else self._limits.first_delay
        jittered = delay * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, guards nothing
        self._wait_until = self._elapsed() + max(jittered, min(error.retry_after or 0.0, GIVE_UP_SECONDS))
        return False

    def _note_retry(self, store: Store, batch: Sequence[Queued], retry_at: float) -> None:
        """Note in the history that the batch is retried at `retry_at`, in monotonic seconds."""
        error, _ = self._last_error or ("", 0.0)
        next_attempt = self._clock() + max(0.0, retry_at - self._elapsed())
        result = ChannelResult(
            DeliveryState.RETRYING, attempts=batch[0].attempts, next_attempt=next_attempt, error=error
        )
        store.outbox.note([entry.id for entry in batch], result)
        self.describe(store)

    # Giving up. The incident is noted: the channel then does not get its end without its start.

    def _give_up(self, store: Store, entries: Sequence[Queued], why: str) -> None:
        for entry in entries:
            if entry.event.status is Status.FIRING and entry.event.incident:
                store.notes.note(self._give_up_key(entry.event), self._clock())
        result = self._given_up_because(why, max(entry.attempts for entry in entries))
        store.outbox.settle([entry.id for entry in entries], result)
        self.describe(store)

    def _given_up_because(self, why: str, attempts: int = 0) -> ChannelResult:
        return ChannelResult(DeliveryState.GIVEN_UP, at=self._clock(), attempts=attempts, error=why)

    def _is_end_without_start(self, store: Store, event: AlertEvent) -> bool:
        return event.status is Status.RESOLVED and bool(store.notes.noted_at(self._give_up_key(event)))

    def _give_up_key(self, event: AlertEvent) -> str:
        return f"given up:{self.channel.name}:{event.incident}"


async def stored(work: Callable[[], T]) -> T:
    """Do `work` on a store in a thread, in the loop itself where there can be none; returns its result."""
    try:
        return await in_thread(work, name="otel-monitoring-delivery")
    except NoThreadError:
        return work()


async def send_once(
    send: Callable[[Notification], Awaitable[None]], notification: Notification, timeout: float
) -> None:
    """Call `send` once, outside of the application's telemetry.

    Args:
        send: `send` or `repeat` of a channel.
        notification: What to send.
        timeout: Seconds.

    Raises:
        DeliveryError: The channel raised, whatever it was, or took longer than `timeout`.
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
