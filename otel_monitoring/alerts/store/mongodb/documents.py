"""`Documents`: what the store has in the database, as numbered documents that are added and never changed.

The only thing that every MongoDB-compatible server does for one of several writers alone is to insert a document with a
given `_id`: updates with a condition are not atomic on some. The next state of a service is therefore a further
document, whose `_id` ends with the next number. Whoever inserts it has decided; the others get a duplicate key, read
what was decided, and decide again. A writer that is killed has inserted its document or not.
"""

import json
import os
import threading
import time
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timezone
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeVar, get_args
from uuid import uuid4
from weakref import finalize

from pymongo import MongoClient, ReadPreference, WriteConcern
from pymongo.database import Database
from pymongo.errors import AutoReconnect, BulkWriteError, DuplicateKeyError

from otel_monitoring.alerts.store.memory.state import LeaseRow
from otel_monitoring.alerts.store.mongodb.client import CONCURRENT_CALLS
from otel_monitoring.compression import compressed
from otel_monitoring.errors import StoreError
from otel_monitoring.forks import renewed
from otel_monitoring.redact import redact, redact_error
from otel_monitoring.runtime.suppression import suppress_instrumentation

T = TypeVar("T")

STATE = "otel_monitoring_state"
REPORTS = "otel_monitoring_reports"
MEASUREMENTS = "otel_monitoring_measurements"
SLICES = "otel_monitoring_slices"

FRESH_SECONDS = 1.5
"""What each worker asks once a second may be this old: it asks the database every other time."""

_LONGEST_SECONDS = 10.0
"""The most seconds from reading a number to inserting the next."""
_KEPT_SECONDS = 60.0
"""How long a number stays taken after a later one was: longer than anybody takes to insert."""
_CLEAN_EVERY_SECONDS = 30.0
_CLOCK_EVERY_SECONDS = 60.0
_CLOCK_STEP = 1.0
"""A difference of clocks is corrected when it has changed by more seconds than this."""
_LEASE_KEPT_SECONDS = 3600.0
_DUPLICATE = 11000

_of_parents: list[MongoClient[dict[str, Any]]] = []
"""Clients inherited in a fork: they are not used, not closed and not collected."""


Kind = Literal["state", "base", "slices", "leases"]
"""What documents are numbered: states, bases of the measurements, positions of the slices, and leases."""


class LatestDocument(NamedTuple):
    """The latest document of a kind.

    Attributes:
        number: Its number; 0: there is none.
        version: The version that it has, or empty.
    """

    number: int = 0
    version: str = ""


class Head(NamedTuple):
    """The numbers of the latest documents, and the small ones themselves.

    What is decided by it is added after its numbers, so that it conflicts with what anybody else has added since.

    Attributes:
        latest: The latest document of each kind.
        leases: The latest leases.
        urgent: When each worker published its last urgent report, in Unix seconds.
        read_at: When this was read, in monotonic seconds.
    """

    latest: Mapping[Kind, LatestDocument] = MappingProxyType(dict.fromkeys(get_args(Kind), LatestDocument()))
    leases: Mapping[str, LeaseRow] = MappingProxyType({})
    urgent: Mapping[str, float] = MappingProxyType({})
    read_at: float = float("-inf")

    def with_added(self, kind: Kind, added: LatestDocument, leases: Mapping[str, LeaseRow] | None) -> "Head":
        """It with a document that was added, unless it has a later one."""
        if added.number <= self.latest[kind].number:
            return self
        return self._replace(latest={**self.latest, kind: added}, leases=self.leases if leases is None else leases)


class Documents:
    """The documents of one service.

    Every failure is a `StoreError`. Nothing here is measured or traced. Threads use it at the same time: none waits for
    the commands of another, so that a database that is slow delays a lease no more than its own commands take.

    Args:
        open_database: Makes a client, and returns the database. It may raise `StoreError`.
        service: The key of the service.
        clock: Returns Unix time in seconds.

    Attributes:
        known_leases: The latest leases that this process has seen, also while the database is away.
    """

    def __init__(
        self, open_database: Callable[[], Database[dict[str, Any]]], service: str, clock: Callable[[], float]
    ) -> None:
        self.service = service
        self._open_database = open_database
        self._clock = clock
        self._offset = 0.0, self._ahead
        """Seconds that the server's clock was ahead of this host's when it was asked, and `_ahead` then."""
        self._lock = renewed(self, "_lock", threading.RLock)
        self._slots = renewed(self, "_slots", partial(threading.BoundedSemaphore, CONCURRENT_CALLS))
        self._users = renewed(self, "_users", int)
        """How many calls the client is in use for."""
        self._closed: list[finalize[..., Documents]] = []
        """Close clients that were closed while they were in use."""
        self._database: Database[dict[str, Any]] | None = None
        self._finalizer: finalize[..., Documents] | None = None
        self._pid = os.getpid()
        self._head = Head()
        self._added: dict[Kind, tuple[float, LatestDocument, Mapping[str, LeaseRow] | None]] = {}
        """The latest document of each kind that this process has added, and when, in monotonic seconds."""
        self.known_leases: Mapping[str, LeaseRow] = {}
        self._asked_clock_at = float("-inf")
        self._cleaned_at = float("-inf")

    # The database

    def do(self, work: Callable[[Database[dict[str, Any]]], T]) -> T:
        """Run `work` on the database, and return its result."""
        with self._slots, suppress_instrumentation():
            try:
                with self._in_use() as database:
                    return work(database)
            except StoreError:
                raise
            except Exception as error:  # the driver raises anything for an answer in another form, as KeyError
                self._head = Head()
                raise StoreError(f"MongoDB: {_first_sentence(error)}") from error

    def close(self) -> None:
        """Close the client, as soon as nobody uses it any more; the next use makes another."""
        with self._lock:
            database, self._database = self._database, None
            self._head, self._asked_clock_at = Head(), float("-inf")
            if database is not None and self._finalizer is not None:
                self._closed.append(self._finalizer)
            self._close_unused()

    @contextmanager
    def _in_use(self) -> Iterator[Database[dict[str, Any]]]:
        with self._lock:
            database = self._current()
            self._users += 1
        try:
            yield database
        finally:
            with self._lock:
                self._users -= 1
                self._close_unused()

    def _close_unused(self) -> None:
        while self._closed and not self._users:
            self._closed.pop()()

    def _current(self) -> Database[dict[str, Any]]:
        if self._pid != os.getpid():
            if self._database is not None and self._finalizer is not None:
                self._finalizer.detach()
                _of_parents.append(self._database.client)
            self._database, self._pid, self._asked_clock_at = None, os.getpid(), float("-inf")
        if self._database is None:
            found = self._open_database()
            majority = WriteConcern(w="majority", wtimeout=2000)
            self._database = found.client.get_database(
                found.name, write_concern=majority, read_preference=ReadPreference.PRIMARY
            )
            self._finalizer = finalize(self, _close, found.client, os.getpid())
        if self.clock_offset != self._offset[0] or time.monotonic() - self._asked_clock_at >= _CLOCK_EVERY_SECONDS:
            self._ask_clock(self._database)
        return self._database

    def _ask_clock(self, database: Database[dict[str, Any]]) -> None:
        asked = self._clock()
        answer = database.client.admin.command("hello")
        now = (asked + self._clock()) / 2
        self._asked_clock_at = time.monotonic()
        known, local_time = self._offset[0], answer.get("localTime")
        if local_time is not None:
            offset = local_time.replace(tzinfo=local_time.tzinfo or timezone.utc).timestamp() - now
            known = offset if abs(offset - known) > _CLOCK_STEP else known
        self._offset = known, self._ahead

    @property
    def clock_offset(self) -> float:
        """Seconds that the server's clock is ahead of this host's, also just after somebody has set that."""
        offset, ahead = self._offset
        step = self._ahead - ahead
        return offset - step if abs(step) > _CLOCK_STEP else offset

    @property
    def _ahead(self) -> float:
        """Seconds that this host's clock is ahead of one that nobody sets."""
        return self._clock() - time.monotonic()

    # Numbered documents

    def head(self, max_age: float = 0.0) -> Head:
        """The latest numbers, as the database has them now, or had at most `max_age` seconds ago."""
        known = self._head
        if time.monotonic() - known.read_at <= max_age and self._pid == os.getpid():
            return known
        head = self.do(self._read_head)
        with self._lock:
            for kind, (at, added, leases) in self._added.items():
                if at > head.read_at:  # by another thread, while this one was reading
                    head = head.with_added(kind, added, leases)
            if head.read_at > self._head.read_at:
                self._head, self.known_leases = head, head.leases
        return head

    def _read_head(self, database: Database[dict[str, Any]]) -> Head:
        read_at = time.monotonic()
        latest = dict(Head().latest)
        urgent: dict[str, float] = {}
        latest_leases: list[Any] = []
        for found in database[STATE].find(self.of_service(), {"content": 0, "commit": 0}):
            kind, _, rest = found["_id"].removeprefix(f"{self.service}:").partition(":")
            if kind == "urgent":
                urgent[rest] = found["at"]
            elif kind in latest and int(rest) > latest[kind].number:
                latest[kind] = LatestDocument(int(rest), found.get("version", ""))
                latest_leases = json.loads(found["leases"]) if kind == "leases" else latest_leases
        leases = {name: LeaseRow(worker, taken, until) for name, worker, taken, until in latest_leases}
        return Head(latest, leases, urgent, read_at)

    def of_service(self) -> dict[str, Any]:
        """The filter of the service's documents in a collection."""
        return {"_id": {"$gt": f"{self.service}:", "$lt": f"{self.service};"}}

    def content(self, kind: Kind, number: int) -> tuple[bytes, float] | None:
        """The content of a `state`, `base` or `slices`, and its time in Unix seconds; None: a later one is there."""
        found = self.do(lambda db: db[STATE].find_one({"_id": self._id(kind, number)}))
        return (bytes_of(found["content"]), float(found["at"])) if found is not None and "content" in found else None

    def add(self, kind: Kind, content: bytes, head: Head, version: str = "") -> bool:
        """Add a `state`, `base` or `slices` after the latest of `head`; False: another one was added meanwhile.

        Args:
            kind: What is added.
            content: Its content.
            head: What it was decided by.
            version: Its version.
        """
        if not self._add(kind, {"version": version, "content": text_of(content)}, head, version):
            return False
        self._empty(kind, head.latest[kind].number + 1)
        return True

    def _empty(self, kind: Kind, number: int) -> None:
        """Remove the content two numbers before `number`: a reader may have just read the number between them."""
        replaced = {"_id": self._id(kind, number - 2)}
        with suppress(StoreError):  # the document has been added all the same; the content goes with its number
            self.do(lambda db: db[STATE].update_one(replaced, {"$unset": {"content": ""}}))

    def add_leases(self, leases: Mapping[str, LeaseRow], now: float, head: Head) -> bool:
        """Change the leases of `head`; returns False where anybody else has changed them meanwhile."""
        kept = {name: row for name, row in leases.items() if row.until > now - _LEASE_KEPT_SECONDS}
        rows = [[name, row.worker, row.taken, row.until] for name, row in kept.items()]
        return self._add("leases", {"leases": json.dumps(rows)}, head, leases=kept)

    def _id(self, kind: Kind, number: int) -> str:
        return f"{self.service}:{kind}:{number:012d}"

    def _add(
        self,
        kind: Kind,
        content: dict[str, Any],
        head: Head,
        version: str = "",
        leases: Mapping[str, LeaseRow] | None = None,
    ) -> bool:
        number = head.latest[kind].number + 1
        if time.monotonic() - head.read_at > _LONGEST_SECONDS:
            self._head = Head()
            return False
        commit = uuid4().hex
        document = {"_id": self._id(kind, number), "commit": commit, "at": self.server_time(), **content}

        def insert(database: Database[dict[str, Any]]) -> bool:
            try:
                database[STATE].insert_one(document)
            except DuplicateKeyError:
                return False
            except AutoReconnect:
                # Whether it was inserted before the connection broke is asked once; it may be asked in vain.
                found = database[STATE].find_one({"_id": document["_id"]}, {"commit": 1})
                if found is None:
                    raise
                return bool(found["commit"] == commit)
            return True

        added = self.do(insert)
        if added and time.monotonic() - head.read_at > 2 * _LONGEST_SECONDS:
            raise StoreError("MongoDB: the server, or this process, stood still during a transaction")
        if added:
            self._learn(kind, LatestDocument(number, version), leases)
        else:
            self._head = Head()
        self._clean()
        return added

    def _learn(self, kind: Kind, added: LatestDocument, leases: Mapping[str, LeaseRow] | None) -> None:
        with self._lock:
            self._added[kind] = time.monotonic(), added, leases
            self._head = self._head.with_added(kind, added, leases)
            if leases is not None:
                self.known_leases = leases

    def _clean(self) -> None:
        """Delete numbers that were passed long ago."""
        if time.monotonic() - self._cleaned_at < _CLEAN_EVERY_SECONDS:
            return
        self._cleaned_at = time.monotonic()
        with suppress(StoreError):  # it is tried again soon
            head, before = self.head(FRESH_SECONDS), self.server_time() - _KEPT_SECONDS
            numbers = [(kind, latest.number) for kind, latest in head.latest.items()]
            spans = [{"_id": {"$gt": self._id(kind, 0), "$lt": self._id(kind, number)}} for kind, number in numbers]
            passed = {"$or": spans, "at": {"$lt": before}}
            # Asked first, because there is mostly nothing, and nx-27017 loses what others insert during a deletion.
            found = self.do(lambda db: [one["_id"] for one in db[STATE].find(passed, {"_id": 1})])
            if found:
                self.do(lambda db: db[STATE].delete_many({"_id": {"$in": found}}))

    def server_time(self) -> float:
        """The time of the server's clock, in Unix seconds."""
        return self._clock() + self.clock_offset

    # Urgent reports

    def set_urgent(self, worker: str, now: float) -> None:
        """Note that a worker has published an urgent report at `now`, in Unix seconds."""
        document = {"_id": f"{self.service}:urgent:{worker}", "at": now}
        self.do(lambda db: db[STATE].replace_one({"_id": document["_id"]}, document, upsert=True))
        self._head = Head()

    def forget_urgent(self, workers: list[str]) -> None:
        """Forget the urgent reports of workers."""
        ids = [f"{self.service}:urgent:{worker}" for worker in workers]
        self.do(lambda db: db[STATE].delete_many({"_id": {"$in": ids}}))
        self._head = Head()


def _close(client: MongoClient[dict[str, Any]], pid: int) -> None:
    if pid == os.getpid():
        client.close()
    else:
        _of_parents.append(client)


def text_of(content: bytes) -> str:
    """The content of a document, compressed: some servers take no binary values where they take texts."""
    return b64encode(compressed(content, 1)).decode()


def bytes_of(text: str) -> bytes:
    """What `text_of` made a text of.

    Raises:
        StoreError: It is damaged.
    """
    try:
        return zlib.decompress(b64decode(text))
    except (ValueError, TypeError, zlib.error) as error:
        raise StoreError(f"MongoDB: a document is damaged: {type(error).__name__}") from error


def are_duplicates(error: BulkWriteError) -> bool:
    """Whether all that failed is that documents are there already."""
    failed = error.details["writeErrors"]  # none: too few servers have the documents
    return bool(failed) and all(each["code"] == _DUPLICATE for each in failed)


def _first_sentence(error: Exception) -> str:
    """The beginning of an error, without PyMongo's description of every server."""
    if isinstance(error, BulkWriteError):  # its own text says nothing
        failed = [*error.details.get("writeErrors", ()), *error.details.get("writeConcernErrors", ())]
        return redact("; ".join(str(each.get("errmsg")) for each in failed[:1]))
    text = redact_error(error)
    for rest in (", Timeout:", " (configured timeouts:", ", full error:"):
        text = text.partition(rest)[0]
    return text
