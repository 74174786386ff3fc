"""`DatabaseHealthChecker`: whether and how fast the database answers, and its collections."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from otel_monitoring import semconv
from otel_monitoring.guard import fail_open, original
from otel_monitoring.health.database_probe import (
    CollectionFacts,
    CollectionsReading,
    LoopTarget,
    ThreadTarget,
    is_closed,
    is_exhausted,
    target_of,
)
from otel_monitoring.health.status import DEGRADED, HEALTHY, UNHEALTHY, UNKNOWN
from otel_monitoring.health.time_limit import NoAnswer
from otel_monitoring.instrumentation.mongodb.driver_errors import Proof, proof_of
from otel_monitoring.instrumentation.mongodb.server_state import ServerState
from otel_monitoring.redact import redact, redact_error
from otel_monitoring.runtime.threads import NotStarted
from otel_monitoring.timestamps import rfc3339

_FORGET_AFTER = 3
"""Number of failed readings in a row after which the last count of a collection is dropped."""
_READING_SHARE = 2000
"""A reading of collections is followed by this many times its duration without one: it takes the application's loop."""


class Ping(NamedTuple):
    """The outcome of a ping.

    Attributes:
        status: `healthy`, `degraded` (slow, answered with an error, or no free connection) or `unhealthy`.
        at: When the ping ended, in seconds of the monotonic clock.
        duration: Round trip in seconds; None if the database did not answer it.
        error: Why the ping failed, redacted; None if it succeeded.
        waited: Seconds that it waited for a connection of the application's pool without getting one; None: it got one.
    """

    status: str
    at: float
    duration: float | None = None
    error: str | None = None
    waited: float | None = None


class Verdict(NamedTuple):
    """The state of the database.

    Attributes:
        status: `healthy`, `degraded`, `unhealthy` or `unknown`.
        error: The error behind the status, redacted; None if there is none.
        problem: Why it is degraded, in a few words; None otherwise.
    """

    status: str
    error: str | None = None
    problem: str | None = None


class DatabaseHealthChecker:
    """Pings a database and reads its collections' counts and index names through the user's own handle.

    `status` and `as_json` return kept results, in any thread. The status follows from the last ping, from failed
    heartbeats since then, and from pings that could not be made: those make it `unknown`. It is `unhealthy` (down) only
    if the database was asked and did not answer. A server that answers with an error, and a pool without a free
    connection, are `degraded`.

    Args:
        db: PyMongo's `Database` or `AsyncDatabase`, Motor's, or a client of these; None: there is no database.
        check_timeout: Time limit, in seconds, of a ping, and of one reading of collections.
        max_collections: Maximum number of collections that are read, in the order of their names.
        slow_ms: Round trip, in milliseconds, above which the database is degraded.
        state: The servers' state by the driver's heartbeats; see
            `otel_monitoring.instrumentation.mongodb.instrumentation.attach`.
        max_age: Seconds after which the last ping is out of date; None: it never is.
        max_pause: The most seconds from one reading of the collections to the next, however long it took.
    """

    def __init__(
        self,
        db: object | None,
        *,
        check_timeout: float = 5.0,
        max_collections: int = 100,
        slow_ms: float = 1000.0,
        state: ServerState | None = None,
        max_age: float | None = None,
        max_pause: float = 30.0,
    ) -> None:
        self._timeout = check_timeout
        self._limit = max_collections
        self._slow = slow_ms / 1000
        self._max_age = max_age
        self._max_pause = max_pause
        self._loop: asyncio.AbstractEventLoop | None = None
        self._frozen: Verdict | None = None
        self._reading = fail_open("reading the database's collections")
        self.use(db, state)

    def use(self, db: object | None, state: ServerState | None = None) -> None:
        """Check `db` from now on, and forget all results; for the arguments see the class."""
        self._target: ThreadTarget | LoopTarget | None = target_of(db) if db is not None else None
        self._name = self._target.name if self._target is not None else ""
        self._state = state or ServerState()
        self._since = time.monotonic()
        self._ping: Ping | None = None
        self._unanswered: str | None = None
        self._collections: dict[str, CollectionFacts] = {}
        self._total: int | None = None
        self._failures: dict[str, str] = {}
        self._failed_so_often: Counter[str] = Counter()
        self._read_last = ""
        self._read_again_at = 0.0
        if self._loop is not None:
            self.bind_loop(self._loop)

    def set_missing(self, why: str) -> None:
        """There is no handle yet: the status is `unknown`, with the error `why`."""
        self._unanswered = why

    def bind_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Use an asynchronous handle on `loop`, the application's; until then it is used on the calling loop."""
        self._loop = loop
        if isinstance(self._target, LoopTarget):
            self._target.loop = loop

    def begin(self) -> None:
        """End a `freeze`; the age of the last ping counts from now."""
        self._frozen = None
        self._since = time.monotonic()

    def freeze(self) -> None:
        """Keep the status unchanged until `begin`, whatever pings and heartbeats say."""
        self._frozen = self._verdict()

    async def check_health(self) -> dict[str, Any]:
        """Ping now, read the collections if they have never been read, and return `as_json()`."""
        await self.ping()
        if self._total is None and self.status in (HEALTHY, DEGRADED):
            await self.refresh_collections()
        return self.as_json()

    async def ping(self) -> str:
        """Ping the database; returns the status. It never raises and ends within the time limit."""
        target = self._target
        if target is None or self._frozen is not None:
            return self.status
        started = time.monotonic()
        try:
            duration = await target.ping(self._timeout)
        except Exception as error:  # noqa: BLE001 - a driver may raise anything
            ping, unanswered = self._failed(target, error, time.monotonic() - started)
        else:
            status = DEGRADED if duration > self._slow else HEALTHY
            ping, unanswered = Ping(status, time.monotonic(), duration), None
        if target is not self._target or self._frozen is not None:  # `use` or `freeze` was called meanwhile
            return self.status
        self._unanswered = unanswered
        self._ping = ping or self._ping
        self._state.settled()
        return self.status

    def _failed(
        self, target: ThreadTarget | LoopTarget, error: Exception, waited: float
    ) -> tuple[Ping | None, str | None]:
        """The failed ping and None; or, if the failure proves nothing about the database, None and the error."""
        text = str(error) if isinstance(error, NotStarted | NoAnswer) else redact_error(original(error))
        proof = Proof.NOTHING if isinstance(error, NotStarted) or is_closed(target) else proof_of(error)
        if isinstance(error, NoAnswer) and proof is Proof.DOWN and is_exhausted(target):
            proof = Proof.NO_CONNECTION
        at = time.monotonic()
        if proof is Proof.NO_CONNECTION:
            return Ping(DEGRADED, at, None, f"no free connection within {waited:.2g} s", waited), None
        if proof is Proof.NOTHING:
            return None, text
        return Ping(UNHEALTHY if proof is Proof.DOWN else DEGRADED, at, None, text), None

    @property
    def collections_due(self) -> bool:
        """Whether the collections are to be read again: the longer a reading takes, the longer the pause after it.

        After a failure they are to be read at once, and so is a database that has none: that costs one command.
        """
        return bool(self._failures) or not self._collections or time.monotonic() >= self._read_again_at

    async def refresh_collections(self) -> None:
        """Read counts and index names, beginning where the last reading ended; never raises.

        A collection that could not be read keeps its last values, up to three times in a row.
        """
        target = self._target
        if target is None or self._frozen is not None:
            return
        reading = CollectionsReading(self._limit, self._timeout, self._read_last, self._collections)
        failure: dict[str, str] = {}
        began = time.monotonic()
        try:
            await target.read(reading, self._timeout)
        except NoAnswer:
            if reading.names is None:
                failure = {"": f"no answer within {self._timeout:g} s"}
        except Exception as error:  # noqa: BLE001 - a driver may raise anything
            failure = {"": redact_error(original(error))}
        ended = time.monotonic()
        if target is self._target and self._frozen is None:
            self._read_again_at = ended + min(self._max_pause, _READING_SHARE * (ended - began))
            with self._reading:
                self._keep(reading, failure)

    def _keep(self, reading: CollectionsReading, failure: dict[str, str]) -> None:
        read, failed = reading.facts.copy(), reading.failures.copy()
        self._read_last = reading.last
        names = reading.names
        self._failures = {**self._failures, **failed, **failure}
        for name in ("", *read):
            if name not in failure:
                self._failures.pop(name, None)
                self._failed_so_often.pop(name, None)
        self._failed_so_often.update(failed.keys())
        if names is None:
            return
        self._total = len(names)
        self._failures = {name: text for name, text in self._failures.items() if not name or name in names}
        for gone in self._failed_so_often.keys() - set(names):
            del self._failed_so_often[gone]
        merged = {**self._collections, **read}
        self._collections = {
            name: merged[name]
            for name in names[: self._limit]
            if name in merged and self._failed_so_often[name] < _FORGET_AFTER
        }

    @property
    def target(self) -> ThreadTarget | LoopTarget | None:
        """How the database is called; None: there is none."""
        return self._target

    @property
    def status(self) -> str:
        """`healthy`, `degraded`, `unhealthy` or `unknown`, from the kept results."""
        return self._verdict().status

    @property
    def description(self) -> str | None:
        """The database's name and status, for people; None if there is no database."""
        if self._target is not None:
            return f"{self._name} ({self.status})"
        return f"(unknown: {self._unanswered})" if self._unanswered is not None else None

    @property
    def problem(self) -> str | None:
        """Why the database is degraded, in a few words; None if it is not."""
        return self._verdict().problem

    def stale(self, now: float) -> str | None:
        """Why the status may be out of date: the last ping is too old. None while it is recent, and without a database.

        Args:
            now: Seconds of the monotonic clock.
        """
        if self._target is None or self._max_age is None or self._frozen is not None:
            return None
        age = now - max(self._since, self._ping.at if self._ping is not None else self._since)
        if age <= self._max_age:
            return None
        why = f": {self._unanswered}" if self._unanswered is not None else ""
        return f"the database has not answered a check for {age:.0f} s{why}"

    def as_json(self, now: float | None = None) -> dict[str, Any]:
        """The documented block, from the kept results.

        Always: `status`, `response_time_ms`, `collections` (`{name: {"document_count", "indexes"}}`), and `timestamp`
        and `age_seconds` of the last ping. If present: `error`, `collections_error`, `collections_failed` (the error by
        collection name), `collections_total` (if more collections exist than are listed).

        Args:
            now: Unix time in seconds, which is the `timestamp` before the first ping; None: the current time.
        """
        verdict = self._verdict()
        ping = self._ping
        now = time.time() if now is None else now
        answer: dict[str, Any] = {
            "status": verdict.status,
            "response_time_ms": round(ping.duration * 1000, 2) if ping and ping.duration is not None else None,
            "collections": {
                name: {"document_count": facts.document_count, "indexes": list(facts.indexes)}
                for name, facts in self._collections.items()
            },
            "timestamp": rfc3339(now - (time.monotonic() - ping.at) if ping else now),
            "age_seconds": round(time.monotonic() - ping.at, 1) if ping else None,
        }
        if verdict.error is not None:
            answer["error"] = verdict.error
        if self._failures:
            answer["collections_error"] = next(reversed(self._failures.values()))
            answer["collections_failed"] = {redact(name): text for name, text in self._failures.items() if name}
        if self._total is not None and self._total > len(self._collections):
            answer["collections_total"] = self._total
        return answer

    def _verdict(self) -> Verdict:
        if self._frozen is not None:
            return self._frozen
        if self._target is None:
            return Verdict(UNKNOWN, self._unanswered or "no database is configured")
        ping, servers = self._ping, self._state.status
        # A ping without a connection asked no server: then heartbeats count, even if they are older.
        asked = ping is not None and ping.waited is None
        if servers.up is False and not (asked and ping is not None and ping.at >= servers.since):
            return Verdict(UNHEALTHY, redact(servers.reason or "the server does not answer"))
        if self._unanswered is not None:
            return Verdict(UNKNOWN, self._unanswered)
        if ping is None:
            return Verdict(UNKNOWN)
        if (old := self.stale(time.monotonic())) is not None:
            return Verdict(UNKNOWN, old)
        return Verdict(ping.status, ping.error, _problem(ping))

    def observe_with(self, meter: Meter) -> None:
        """Make the gauges `otel_monitoring.database.…`: up, ping duration, pool wait, error, documents."""
        for name, unit, observe in (
            (semconv.DATABASE_UP, "1", self._observe_up),
            (semconv.DATABASE_PING_DURATION, "s", self._observe_ping),
            (semconv.DATABASE_POOL_WAIT, "s", self._observe_wait),
            (semconv.DATABASE_ERROR, "1", self._observe_error),
            (semconv.COLLECTION_DOCUMENTS, "{document}", self._observe_documents),
        ):
            meter.create_observable_gauge(name, callbacks=[observe], unit=unit)

    def _observe_up(self, _options: CallbackOptions) -> Iterable[Observation]:
        status = self.status
        return () if status == UNKNOWN else (Observation(int(status != UNHEALTHY), self._attributes),)

    def _observe_ping(self, _options: CallbackOptions) -> Iterable[Observation]:
        ping = self._valid_ping()
        return () if ping is None or ping.duration is None else (Observation(ping.duration, self._attributes),)

    def _observe_wait(self, _options: CallbackOptions) -> Iterable[Observation]:
        ping = self._valid_ping()
        return () if ping is None else (Observation(ping.waited or 0.0, self._attributes),)

    def _observe_error(self, _options: CallbackOptions) -> Iterable[Observation]:
        ping = self._valid_ping()
        return () if ping is None else (Observation(int(_answered_with_error(ping)), self._attributes),)

    def _observe_documents(self, _options: CallbackOptions) -> Iterable[Observation]:
        if self.status not in (HEALTHY, DEGRADED):  # the counts are out of date
            return []
        return [
            Observation(facts.document_count, {**self._attributes, semconv.DB_COLLECTION_NAME: name})
            for name, facts in self._collections.items()
        ]

    def _valid_ping(self) -> Ping | None:
        """The last ping, if the status follows from it."""
        return self._ping if self.status in (HEALTHY, DEGRADED) else None

    @property
    def _attributes(self) -> dict[str, str]:
        return {semconv.DB_NAMESPACE: self._name} if self._name else {}


def _answered_with_error(ping: Ping) -> bool:
    return ping.status == DEGRADED and ping.error is not None and ping.waited is None


def _problem(ping: Ping) -> str | None:
    if ping.status != DEGRADED:
        return None
    if ping.waited is not None:
        return f"database: {ping.error}"
    return f"database answers with an error: {ping.error}" if ping.error is not None else "database is slow"
