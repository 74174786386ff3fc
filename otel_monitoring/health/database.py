"""`DatabaseHealthChecker`: whether the database answers, how fast, and what is in it."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from otel_monitoring import conventions as c
from otel_monitoring.events import rfc3339
from otel_monitoring.guard import contained
from otel_monitoring.health.execution import NotStarted
from otel_monitoring.health.queries import CollectionFacts, CollectionsReading, LoopTarget, ThreadTarget, target_of
from otel_monitoring.health.report import DEGRADED, HEALTHY, UNHEALTHY, UNKNOWN
from otel_monitoring.instrument.server_state import ServerState
from otel_monitoring.redact import redact, redact_error


@dataclass(frozen=True, slots=True)
class Ping:
    """The outcome of the last ping that had one.

    Attributes:
        status: `healthy`, `degraded` (slow) or `unhealthy` (failed).
        time: When it ended, in Unix seconds.
        duration: Round trip in seconds; None when it failed.
        error: Why it failed, redacted.
    """

    status: str
    time: float
    duration: float | None = None
    error: str | None = None


class DatabaseHealthChecker:
    """Pings a database and reads its collections' counts and index names through the user's own handle.

    Results are kept: `status` and `as_json` only read them, from any thread. Three things make the status: the last
    ping, heartbeats that failed since, and pings that could not be made, which leave it `unknown`, never down.

    Args:
        db: PyMongo's `Database` or `AsyncDatabase`, Motor's, or a client of these; None: no database to check.
        check_timeout: Seconds that a ping, or reading all collections, may take.
        max_collections: How many collections are read, in the order of their names.
        slow_ms: Above this round trip, in milliseconds, the database is degraded.
        state: What the driver's heartbeats say; see `otel_monitoring.instrument.mongodb.attach`.
    """

    def __init__(
        self,
        db: object | None,
        *,
        check_timeout: float = 5.0,
        max_collections: int = 100,
        slow_ms: float = 1000.0,
        state: ServerState | None = None,
    ) -> None:
        self._timeout = check_timeout
        self._limit = max_collections
        self._slow = slow_ms / 1000
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reading = contained("reading the database's collections")
        self.use(db, state)

    def use(self, db: object | None, state: ServerState | None = None) -> None:
        """Check `db` from now on, and forget what was known; the arguments are the constructor's."""
        self._target: ThreadTarget | LoopTarget | None = target_of(db) if db is not None else None
        self._name = self._target.name if self._target is not None else ""
        self._state = state or ServerState()
        self._ping: Ping | None = None
        self._unanswered: tuple[float, str] | None = None
        self._collections: dict[str, CollectionFacts] = {}
        self._total: int | None = None
        self._collections_error: str | None = None
        if self._loop is not None:
            self.bind_loop(self._loop)

    def bind_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tell which event loop an async handle lives on. Until then it is used on the loop that calls."""
        self._loop = loop
        if isinstance(self._target, LoopTarget):
            self._target.loop = loop

    async def check_health(self) -> dict[str, Any]:
        """Ping now, read the collections if that has never been done, and answer as `as_json` does."""
        await self.ping()
        if self._total is None and self.status in (HEALTHY, DEGRADED):
            await self.refresh_collections()
        return self.as_json()

    async def ping(self) -> str:
        """Ask the database for a sign of life; returns the status. Never raises, and ends within the time limit."""
        target = self._target
        if target is None:
            return UNKNOWN
        try:
            duration = await target.ping(self._timeout)
        except NotStarted as error:
            self._unanswered = (time.time(), str(error))
            return self.status
        except Exception as error:  # noqa: BLE001 - whatever a driver raises is the answer
            ping = Ping(UNHEALTHY, time.time(), error=redact_error(error))
        else:
            ping = Ping(DEGRADED if duration > self._slow else HEALTHY, time.time(), duration)
        if target is not self._target:  # `use` was called meanwhile
            return self.status
        self._ping = ping
        self._unanswered = None
        self._state.settled()
        return self.status

    async def refresh_collections(self) -> None:
        """Read counts and index names again; what cannot be read in time keeps its last value. Never raises."""
        target = self._target
        if target is None:
            return
        reading = CollectionsReading(self._limit)
        try:
            await target.read(reading, self._timeout)
        except Exception as error:  # noqa: BLE001 - whatever a driver raises is the answer
            reading.error = error
        if target is self._target:
            with self._reading:
                self._keep(reading)

    def _keep(self, reading: CollectionsReading) -> None:
        error = reading.error
        self._collections_error = redact_error(error) if error is not None else None
        if reading.names is None:
            return
        self._total = len(reading.names)
        merged = {**self._collections, **reading.facts.copy()}
        self._collections = {name: merged[name] for name in reading.names[: self._limit] if name in merged}

    @property
    def status(self) -> str:
        """`healthy`, `degraded`, `unhealthy` or `unknown`, from what is known now."""
        return self._verdict()[0]

    def as_json(self, now: float | None = None) -> dict[str, Any]:
        """The documented block, from what is known.

        `status`, `response_time_ms`, `collections` (`{name: {"document_count", "indexes"}}`), `timestamp` and
        `age_seconds` of the last ping that had an outcome; and, where there is something to say, `error`,
        `collections_error`, `collections_total` (more than were read).

        Args:
            now: Unix time in seconds; the current time when not given.
        """
        status, error = self._verdict()
        ping = self._ping
        now = time.time() if now is None else now
        answer: dict[str, Any] = {
            "status": status,
            "response_time_ms": round(ping.duration * 1000, 2) if ping and ping.duration is not None else None,
            "collections": {
                name: {"document_count": facts.document_count, "indexes": list(facts.indexes)}
                for name, facts in self._collections.items()
            },
            "timestamp": rfc3339(ping.time if ping else now),
            "age_seconds": round(max(0.0, now - ping.time), 1) if ping else None,
        }
        if error is not None:
            answer["error"] = error
        if self._collections_error is not None:
            answer["collections_error"] = self._collections_error
        if self._total is not None and self._total > len(self._collections):
            answer["collections_total"] = self._total
        return answer

    def _verdict(self) -> tuple[str, str | None]:
        if self._target is None:
            return UNKNOWN, "no database is configured"
        ping, servers, unanswered = self._ping, self._state.status, self._unanswered
        if servers.up is False and (ping is None or servers.since > ping.time):
            return UNHEALTHY, redact(servers.reason or "the server does not answer")
        if unanswered is not None:
            return UNKNOWN, unanswered[1]
        if ping is None:
            return UNKNOWN, None
        return ping.status, ping.error

    def observe_with(self, meter: Meter) -> None:
        """Make the gauges `otel_monitoring.database.up`, `.ping.duration` and `.collection.documents`."""
        meter.create_observable_gauge(c.DATABASE_UP, callbacks=[self._observe_up], unit="1")
        meter.create_observable_gauge(c.DATABASE_PING_DURATION, callbacks=[self._observe_ping], unit="s")
        meter.create_observable_gauge(c.COLLECTION_DOCUMENTS, callbacks=[self._observe_documents], unit="{document}")

    def _observe_up(self, _options: CallbackOptions) -> Iterable[Observation]:
        status = self.status
        return () if status == UNKNOWN else (Observation(int(status != UNHEALTHY), self._attributes),)

    def _observe_ping(self, _options: CallbackOptions) -> Iterable[Observation]:
        ping = self._ping
        if ping is None or ping.duration is None or self._unanswered is not None:
            return ()
        return (Observation(ping.duration, self._attributes),)

    def _observe_documents(self, _options: CallbackOptions) -> Iterable[Observation]:
        return [
            Observation(facts.document_count, {**self._attributes, c.DB_COLLECTION_NAME: name})
            for name, facts in self._collections.items()
        ]

    @property
    def _attributes(self) -> dict[str, str]:
        return {c.DB_NAMESPACE: self._name} if self._name else {}
