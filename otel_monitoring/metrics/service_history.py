"""`ServiceHistory`: what all processes of a service measured, as one history that never goes back.

Each process appends what it measured to a stream that all of them read, and adds up what the others have written. So
a process that ends leaves its counts behind. A base replaces older deltas: their total, and the recent window's ring.

While a process is alone, its own history is the service's. From the first delta or base of another one on, the service
has a history of its own, to which everybody's measurements are added.
"""

import json
import os
import threading
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, Final, Literal, NamedTuple
from uuid import uuid4

from otel_monitoring.compression import compressed
from otel_monitoring.errors import StoreError
from otel_monitoring.forks import renewed
from otel_monitoring.guard import fail_open
from otel_monitoring.metrics.database_work import DatabaseWork
from otel_monitoring.metrics.error_groups import ErrorGroup, ErrorKey, merged_groups
from otel_monitoring.metrics.serialization import EncodedSnapshot, PackedSnapshot, SnapshotCodec, readable
from otel_monitoring.metrics.snapshot import Snapshot
from otel_monitoring.metrics.stream import Base, Delta, MeasurementStream
from otel_monitoring.metrics.window import History, Moment, Windows, joined
from otel_monitoring.redact import redact_error
from otel_monitoring.runtime.give_way import give_way

Scope = Literal["service", "instance"]
"""What an answer is about: all processes of the service, or the one that answers."""
SERVICE: Final = "service"
INSTANCE: Final = "instance"

_FORMAT = 2
_ATTEMPTS = 3
"""How often a base is read anew where another one has replaced it meanwhile."""
_MANY_DELTAS = 100
"""The number of deltas after which the base is replaced."""
_LONG = 30.0
"""Seconds after which the base is replaced if there was a delta."""
_WRITERS = 500
"""The most processes of which the base knows the last delta; those that wrote last are kept."""
_UNSENT = 8
OWN_METRICS_LIMIT = 300
"""The most names of the application's own metrics that are remembered."""
_IDLE = 1.0
"""Seconds for which the window stays as it is where nothing was measured."""
_reading = fail_open("reading the measurements of the service")


class ErrorSeen(NamedTuple):
    """An error of the service.

    Attributes:
        text: Its redacted text.
        time: When it happened, in Unix seconds.
    """

    text: str
    time: float


class ServiceHistory:
    """The history of all processes that use a stream. Thread-safe; `history` may be read in any thread.

    Args:
        own: What this process measured.
        clock: A monotonic clock, in seconds.
        wall_clock: Returns Unix time in seconds, as all processes of the service have it.
        span: Seconds of the recent window.
        resolution: Seconds of one entry of its ring.

    Attributes:
        history: The measurements; it is replaced by each exchange.
        last_error: The last error of any process; None: there was none.
        joined: Whether there was an exchange; before that the process itself knows more.
        problem: Why the last exchange failed, or was with some of the processes only; None: it was with all of them.
        errors: The groups of failed requests of all processes; it is replaced as a whole.
        take_errors: Returns the groups of this process since the last call.
        work: What requests and operations of all processes did with the database; it is replaced as a whole.
        own_work: What requests and operations of this process did with the database.
        take_work: Returns what they did since the last call.
        own_metrics: Returns the names of the application's own metrics in this process.
        metrics: The names of the application's own metrics in all processes, those that have ended included.
        knows_errors: True: the processes tell each other the texts of errors.
        before_base: Called before a base takes the place of deltas; False: it must not yet, somebody needs them.
    """

    knows_errors = True

    def __init__(
        self,
        own: History,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        span: float,
        resolution: float,
    ) -> None:
        self._own_history = own
        self._clock = clock
        self._wall_clock = wall_clock
        self._span = span
        self._resolution = resolution
        self.before_base: Callable[[], bool] = lambda: True
        self.take_errors: Callable[[], Sequence[ErrorGroup]] = lambda: ()
        self.take_work: Callable[[], DatabaseWork] = DatabaseWork
        self.own_metrics: Callable[[], Collection[str]] = lambda: ()
        self._lock = renewed(self, "_lock", threading.Lock, wait=True)
        self.begin()

    def begin_after_fork(self) -> None:
        """Begin anew in a forked child."""
        if self._pid != os.getpid():
            self.begin()

    def begin(self) -> None:
        """Begin as a new process: nothing is known of the stream."""
        self._pid = os.getpid()
        self._own = self._own_history.moment
        # None: this process is alone. What the own history had before is not measured by this writer.
        self._shared: History | None = None if self._own.total.is_empty else self._begun()
        self._uncounted: list[Snapshot] = []
        self.history = self._whole()
        self._began = self._clock()
        self._since: float | None = None
        self.last_error: ErrorSeen | None = None
        self.joined = False
        self.problem: str | None = None
        self._codec = SnapshotCodec()
        self._writer = uuid4().hex[:16]
        self._sent = 0
        self._noted: deque[tuple[Snapshot, Moment]] = deque()
        self._unsent: list[Snapshot] = []
        self._outgoing: Delta | None = None
        self._error_sent: ErrorSeen | None = None
        self._error_seen: ErrorSeen | None = None
        self.errors: Mapping[ErrorKey, ErrorGroup] = {}
        self.metrics: frozenset[str] = frozenset()
        self._unsent_errors: Mapping[ErrorKey, ErrorGroup] = {}
        self.work = self.own_work = self._unsent_work = DatabaseWork()
        self._known: dict[str, int] = {}
        self._in_base: Mapping[str, int] = {}
        self._version = ""
        # Whether only some of the processes use the stream, and this one knows what they cannot read there.
        self._ahead = False
        self._beyond_base = 0
        self._based_at = self._clock()
        self._encoded_entries: dict[int, tuple[PackedSnapshot, bytes]] = {}

    @property
    def since(self) -> float:
        """From when the totals count, in Unix seconds; never later than now, also after the clock was set back."""
        now = self._wall_clock()
        return min(self._since, now) if self._since is not None else now - (self._clock() - self._began)

    def note(self, snapshot: Snapshot) -> None:
        """Take what was added to the own history since the last call; the next `exchange` publishes it."""
        news = Snapshot(snapshot.start, snapshot.end, snapshot.histograms, snapshot.sums)
        self._noted.append((news, self._own_history.moment))

    def skip(self) -> list[Snapshot]:
        """Take what was noted, and publish nothing: this process shares its measurements with no other one."""
        with self._lock:
            self.errors = merged_groups(self.errors, self.take_errors())
            self._take_work()
            self._learn(self.own_metrics())
            return self._take_noted()

    def _take_work(self) -> DatabaseWork:
        news = self.take_work()
        self.work, self.own_work = self.work.plus(news), self.own_work.plus(news)
        return news

    def _take_noted(self) -> list[Snapshot]:
        noted = [self._noted.popleft() for _ in range(len(self._noted))]
        if noted:
            self._own = noted[-1][1]
        snapshots = [snapshot for snapshot, _ in noted]
        self._uncounted += snapshots
        return snapshots

    def exchange(
        self,
        stream: MeasurementStream,
        last_error: ErrorSeen | None = None,
        *,
        publish: bool = True,
        read: bool = True,
    ) -> None:
        """Publish what was noted, then add it and what the others have published.

        Args:
            stream: The stream.
            last_error: The last error of this process.
            publish: False: what was noted waits, and does not count yet.
            read: False: what the others have published waits.

        Raises:
            StoreError: The stream failed. What was noted counts, and is published by a later call.
        """
        with self._lock:
            self._unsent += self._take_noted() if publish else []
            if len(self._unsent) > _UNSENT:
                self._unsent = [joined(self._unsent)]
            self._see_own(last_error)
            self._learn(self.own_metrics())
            errors = self.take_errors() if publish else ()
            self._unsent_errors = merged_groups(self._unsent_errors, errors)
            self.errors = merged_groups(self.errors, errors)
            if publish:
                self._unsent_work = self._unsent_work.plus(self._take_work())
            try:
                if publish or self._unsent or self._outgoing is not None:
                    self._send(stream, last_error)
                if read:
                    self._take(*self._receive(stream))
            except BaseException as error:
                # The text of a store is for people as it is.
                self.problem = str(error) if isinstance(error, StoreError) else redact_error(error)
                raise
            finally:
                self._count([])
                self.history, self.joined = self._whole(), self.joined or read
            if not read:
                return
            self.problem = stream.problem
            if (self._ahead or not self._version) and not self._replace_base(stream):
                # Another process was faster, and its base may contain what this one has not read.
                self._take(*self._receive(stream))
                self.history = self._whole()

    def compact(self, stream: MeasurementStream) -> None:
        """Replace the base, if that is due: one process does it.

        Raises:
            StoreError: The stream failed.
        """
        with self._lock:
            now = self._clock()
            if stream.problem is not None:
                return
            if self._beyond_base >= _MANY_DELTAS or (self._beyond_base and now - self._based_at >= _LONG):
                self._replace_base(stream)

    def _replace_base(self, stream: MeasurementStream) -> bool:
        if stream.problem is None and not self.before_base():
            return False
        self._based_at = self._clock()
        self._since = self.since
        known = dict(list(self._known.items())[-_WRITERS:])
        version = uuid4().hex
        # What the base before did not contain stays: others may not have read it yet, and would have to begin anew.
        forgotten = {writer: number for writer, number in self._known.items() if writer not in known}
        deleted = {**self._in_base, **forgotten}
        if not stream.replace_base(self._version, version, self._encoded_base(known), deleted):
            return False
        self._version, self._known, self._in_base, self._beyond_base = version, known, dict(known), 0
        self._ahead = False
        return True

    # Publishing

    def _send(self, stream: MeasurementStream, error: ErrorSeen | None) -> None:
        """Append what was not accepted yet; a delta whose acceptance is unknown is appended again as it was."""
        while True:
            if self._outgoing is None:
                whole = joined(self._unsent) if self._unsent else Snapshot(0.0, 0.0)
                news = error if error != self._error_sent else None
                groups, work = self._unsent_errors, self._unsent_work
                if whole.histograms or whole.sums or news or groups or work:
                    note: dict[str, Any] = {"at": self._wall_clock(), **own_note(whole, self.own_metrics())}
                    if news is not None:
                        note["error"] = [news.text, news.time]
                    if groups:
                        note["errors"] = [group.as_record() for group in groups.values()]
                    if work:
                        note["work"] = work.as_record()
                    self._outgoing = Delta(self._writer, self._sent + 1, self._codec.encode(whole, note))
                self._unsent, self._error_sent, self._unsent_errors = [], error, {}
                self._unsent_work = DatabaseWork()
                if self._outgoing is None:
                    return
            stream.add(self._outgoing)
            self._sent += 1
            self._known[self._writer] = self._sent
            self._beyond_base += 1
            self._outgoing = None

    # Reading

    def _receive(self, stream: MeasurementStream) -> "tuple[_ReadBase | None, Sequence[Delta]]":
        """A base with which to begin anew, if this process is behind it, and the deltas that follow."""
        known, version, restored = self._known, self._version, None
        deltas, found = stream.read(known)
        for _ in range(_ATTEMPTS):
            if found == version:
                break
            base = stream.base()
            version = base.version if base is not None else ""
            head = self._read_head(base) if base is not None else None
            self._ahead = False
            if head is None:
                self._beyond_base = _MANY_DELTAS
                break
            self._since = min(self.since, head.since) if self._version else head.since
            self._in_base = head.known
            behind = not self._version or _is_behind(_reach(known, deltas), head.known)
            if not behind and stream.problem is None:
                break
            later, found = stream.read(head.known)
            reach = _reach(head.known, later)
            if not behind:
                self._ahead = _is_behind(reach, known)
                break
            if reach.get(self._writer, 0) < self._sent:
                break  # the store was emptied meanwhile, and this process knows more than the new base
            read = self._read_base(head)
            if read is None:
                self._beyond_base = _MANY_DELTAS
                break
            restored, known, deltas = read, head.known, later
        self._version = version
        return restored, deltas if stream.problem is None else _following(known, deltas)

    def _read_head(self, base: Base) -> "_BaseHead | None":
        with readable("the base of the measurements", _reading):
            return _BaseHead.of(base)
        return None

    def _read_base(self, head: "_BaseHead") -> "_ReadBase | None":
        with readable("the base of the measurements", _reading):
            return _ReadBase.of(head, self._codec)
        return None

    def _take(self, base: "_ReadBase | None", deltas: Sequence[Delta]) -> None:
        """Add what the others have published, beginning with the base if there is one."""
        if base is not None:
            # What this process has measured was published before: it is in the base, or in the deltas that follow.
            self._shared, self._uncounted = self._restored(base), []
        parts: list[EncodedSnapshot] = []
        for delta in deltas:
            if self._known.get(delta.writer, 0) >= delta.number:
                continue
            self._known.pop(delta.writer, None)
            self._known[delta.writer] = delta.number
            self._beyond_base += 1
            give_way()
            with readable("a delta of the measurements", _reading):
                part = self._codec.decode(delta.content)
                self._see(_error_of(part.note.get("error")))
                self._learn(part.note.get("own", ()))
                groups = _groups_of(part.note.get("errors"))
                self.errors = merged_groups(self.errors, groups) if groups else self.errors
                self.work = self.work.plus(DatabaseWork.of_record(part.note.get("work", {})))
                parts.append(part)
        self._count(parts)

    def _count(self, parts: Sequence[EncodedSnapshot]) -> None:
        """Add what the others have published, and what this process has measured."""
        own, self._uncounted = self._uncounted, []
        if self._shared is None and parts:
            own = []  # its own history has it
            self._shared = History.continuing(self._own, span=self._span, resolution=self._resolution)
        if self._shared is not None:
            before, now = self._shared.total.end, self._clock()
            if parts or own or now - before >= _IDLE:
                self._shared.add(self._codec.total(parts, before, now, joined(own) if own else None))

    def _begun(self) -> History:
        return History(self._clock(), span=self._span, resolution=self._resolution)

    def _restored(self, base: "_ReadBase") -> History:
        now, head = self._clock(), base.head
        entries = [
            self._codec.total([part], now - head.age - began, now - head.age - ended)
            for (began, ended), part in zip(head.ages, base.entries, strict=True)
            if head.age + ended < self._span
        ]
        recent = self._codec.total(
            [part for (_, ended), part in zip(head.ages, base.entries, strict=True) if head.age + ended < self._span],
            entries[0].start if entries else now,
            now,
        )
        total = self._codec.total([base.total], now - max(0.0, self._wall_clock() - head.since), now)
        self._since = head.since
        self._see(head.error)
        self.errors = merged_groups({}, base.errors)
        self.work = base.work
        self._learn(head.own)
        self._known = dict(head.known)
        self._beyond_base = 0
        self._encoded_entries.clear()
        return History.restored(total, recent, entries, span=self._span, resolution=self._resolution)

    # Adding up

    def _whole(self) -> Windows:
        """What all processes measured, as of what this one has published."""
        return self._own if self._shared is None else self._shared.moment

    def _entries(self) -> list[PackedSnapshot]:
        """The ring of the recent window of all processes."""
        moment = self._own if self._shared is None else self._shared.moment
        return [one for one in moment.entries() if one.rows or one.sums]

    def _see_own(self, error: ErrorSeen | None) -> None:
        known, self.last_error = self.last_error, None
        self._see(known)  # the clock may have been set back since
        if error != self._error_seen:
            self._error_seen = error
            self._see(error)

    def _see(self, error: ErrorSeen | None) -> None:
        if error is not None:
            # An error of the future, from a process whose clock was ahead, would hide all until then.
            error = error._replace(time=min(error.time, self._wall_clock()))
            if self.last_error is None or error.time > self.last_error.time:
                self.last_error = error

    def _learn(self, names: Iterable[str]) -> None:
        if not self.metrics.issuperset(names):
            self.metrics = frozenset(sorted(self.metrics.union(names))[:OWN_METRICS_LIMIT])

    # The base

    def _encoded_base(self, known: Mapping[str, int]) -> bytes:
        now, entries, known_entries = self._clock(), self._entries(), self._encoded_entries
        self._encoded_entries = {id(one): known_entries.get(id(one)) or (one, self._encoded(one)) for one in entries}
        contents = [self._encoded(self.history.total.snapshot), *(one for _, one in self._encoded_entries.values())]
        error = self.last_error
        groups = _compressed([group.as_record() for group in self.errors.values()])
        work = _compressed(self.work.as_record())
        head = {
            "format": _FORMAT,
            "known": known,
            "since": self.since,
            "error": [error.text, error.time] if error is not None else None,
            "ages": [(now - entry.start, now - entry.end) for entry in entries],
            "sizes": [len(content) for content in contents],
            "own": sorted(self.metrics),
        }
        return b"\n".join((json.dumps(head).encode(), b"".join((*contents, groups, work))))

    def _encoded(self, snapshot: Snapshot | PackedSnapshot) -> bytes:
        return self._codec.encode(snapshot, {})


class _BaseHead(NamedTuple):
    """What a base says about itself.

    Attributes:
        known: By writer, the number of the last delta that it contains.
        since: From when its total counts, in Unix seconds.
        error: The last error until then.
        age: Seconds since it was written.
        ages: For each entry of the ring, the seconds from its start and end to when the base was written.
        sizes: The bytes of the total and of each entry.
        contents: These, the groups of failed requests, and the work with the database.
        own: The names of the application's own metrics until then.
    """

    known: dict[str, int]
    since: float
    error: ErrorSeen | None
    age: float
    ages: Sequence[tuple[float, float]]
    sizes: Sequence[int]
    contents: memoryview
    own: Sequence[str]

    @classmethod
    def of(cls, base: Base) -> "_BaseHead":
        line, _, _ = base.content.partition(b"\n")
        head: dict[str, Any] = json.loads(line)
        if head["format"] != _FORMAT:
            raise ValueError("the base has another format")
        return cls(
            {str(writer): int(number) for writer, number in head["known"].items()},
            float(head["since"]),
            _error_of(head["error"]),
            max(0.0, base.age),
            [(float(began), float(ended)) for began, ended in head["ages"]],
            [int(size) for size in head["sizes"]],
            memoryview(base.content)[len(line) + 1 :],
            list(map(str, head.get("own", ()))),
        )


class _ReadBase(NamedTuple):
    """A base that was read.

    Attributes:
        head: What it says about itself.
        errors: The groups of failed requests until then.
        work: What requests and operations did with the database until then.
        total: Everything until then.
        entries: The entries of the ring.
    """

    head: _BaseHead
    errors: Sequence[ErrorGroup]
    work: DatabaseWork
    total: EncodedSnapshot
    entries: Sequence[EncodedSnapshot]

    @classmethod
    def of(cls, head: _BaseHead, codec: SnapshotCodec) -> "_ReadBase":
        ends = list(accumulate(head.sizes, initial=0))
        total, *entries = [codec.decode(head.contents[begin:end]) for begin, end in pairwise(ends)]
        if len(entries) != len(head.ages):
            raise ValueError("the base is damaged")
        errors, rest = _decompressed(head.contents[ends[-1] :])
        work, _ = _decompressed(rest) if rest else ({}, b"")  # an older version has written none
        return cls(head, _groups_of(errors), DatabaseWork.of_record(work), total, entries)


def _compressed(value: Any) -> bytes:
    return compressed(json.dumps(value).encode(), 1)


def _decompressed(content: bytes | memoryview) -> tuple[Any, bytes]:
    """The value at the beginning of `content`, and what follows it."""
    decompressor = zlib.decompressobj()
    return json.loads(decompressor.decompress(content)), decompressor.unused_data


def own_note(snapshot: Snapshot, own: Collection[str]) -> dict[str, Any]:
    """What a delta says about itself: which of its metrics are the application's `own`; nothing where none is."""
    if not own:
        return {}
    found = {series.name for kind in (snapshot.sums, snapshot.histograms) for series in kind}.intersection(own)
    return {"own": sorted(found)} if found else {}


def _error_of(record: Any) -> ErrorSeen | None:
    if record is None:
        return None
    text, time = record
    return ErrorSeen(str(text), float(time))


def _groups_of(records: Any) -> list[ErrorGroup]:
    return [ErrorGroup.of_record(record) for record in records or ()]


def _reach(known: Mapping[str, int], deltas: Sequence[Delta]) -> dict[str, int]:
    """By writer, the last delta up to which none is missing."""
    reach = dict(known)
    for delta in deltas:
        if delta.number == reach.get(delta.writer, 0) + 1:
            reach[delta.writer] = delta.number
    return reach


def _following(known: Mapping[str, int], deltas: Sequence[Delta]) -> Sequence[Delta]:
    """The deltas before which none is missing: the others are in a base, or will be, once another process has come."""
    reach = _reach(known, deltas)
    return [delta for delta in deltas if delta.number <= reach.get(delta.writer, 0)]


def _is_behind(reach: Mapping[str, int], known: Mapping[str, int]) -> bool:
    return any(number > reach.get(writer, 0) for writer, number in known.items())
