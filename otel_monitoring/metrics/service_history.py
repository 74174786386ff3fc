"""`ServiceHistory`: what all processes of a service measured, as one history that never goes back.

Each process appends what it measured to a stream that all of them read, and adds up what it reads. So the totals are
those of the stream: a process that ends leaves its counts behind. A base replaces older deltas: their total, and the
ring of the recent window.
"""

import json
import os
import threading
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import uuid4

from otel_monitoring.forks import renewed
from otel_monitoring.guard import fail_open
from otel_monitoring.metrics.error_groups import ErrorGroup, ErrorKey, merged_groups
from otel_monitoring.metrics.serialization import EncodedSnapshot, SnapshotCodec, readable
from otel_monitoring.metrics.snapshot import Snapshot
from otel_monitoring.metrics.stream import Base, Delta, MeasurementStream
from otel_monitoring.metrics.window import History, joined
from otel_monitoring.redact import redact_error

Scope = Literal["service", "instance"]
"""What an answer is about: all processes of the service, or the one that answers."""
SERVICE: Final = "service"
INSTANCE: Final = "instance"

_FORMAT = 1
_ATTEMPTS = 3
"""How often a base is read anew where another one has replaced it meanwhile."""
_MANY_DELTAS = 100
_LONG = 30.0
"""The base is replaced after so many deltas, or after so many seconds in which there was one."""
_WRITERS = 500
"""The most processes of which the base knows the last delta; those that wrote last are kept."""
_UNSENT = 8
_IDLE = 1.0
"""Seconds for which the window stays as it is where nothing was measured."""
_reading = fail_open("reading the measurements of the service")


@dataclass(frozen=True, slots=True)
class ErrorSeen:
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
        clock: A monotonic clock, in seconds.
        wall_clock: Returns Unix time in seconds.
        span: Seconds of the recent window.
        resolution: Seconds of one entry of its ring.

    Attributes:
        history: The measurements; it is replaced where the process was behind the base.
        since: From when the totals count, in Unix seconds.
        last_error: The last error of any process; None: there was none.
        joined: Whether there was an exchange; before that the process itself knows more.
        problem: Why the last exchange failed; None: it did not.
        errors: The groups of failed requests of all processes; it is replaced as a whole.
        take_errors: Returns those of this process since the last call.
        before_base: Called before a base takes the place of deltas; False: it must not yet, somebody needs them.
    """

    def __init__(
        self, *, clock: Callable[[], float], wall_clock: Callable[[], float], span: float, resolution: float
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._span = span
        self._resolution = resolution
        self.before_base: Callable[[], bool] = lambda: True
        self.take_errors: Callable[[], Sequence[ErrorGroup]] = lambda: ()
        self._lock = renewed(self, "_lock", threading.Lock, wait=True)
        self.begin()

    def begin_after_fork(self) -> None:
        """Begin anew in a forked child."""
        if self._pid != os.getpid():
            self.begin()

    def begin(self) -> None:
        """Begin as a new process: nothing is known of the stream."""
        self._pid = os.getpid()
        self.history = History(self._clock(), span=self._span, resolution=self._resolution)
        self.since = self._wall_clock()
        self.last_error: ErrorSeen | None = None
        self.joined = False
        self.problem: str | None = None
        self._codec = SnapshotCodec()
        self._writer = uuid4().hex[:16]
        self._sent = 0
        self._noted: deque[Snapshot] = deque()
        self._unsent: list[Snapshot] = []
        self._outgoing: Delta | None = None
        self._error_sent: ErrorSeen | None = None
        self.errors: Mapping[ErrorKey, ErrorGroup] = {}
        self._unsent_errors: Mapping[ErrorKey, ErrorGroup] = {}
        self._known: dict[str, int] = {}
        self._version = ""
        self._beyond_base = 0
        self._based_at = self._clock()
        self._ring: dict[int, tuple[Snapshot, bytes]] = {}

    def note(self, snapshot: Snapshot) -> None:
        """Take what this process measured since the last call; the next `exchange` publishes it."""
        self._noted.append(Snapshot(snapshot.start, snapshot.end, snapshot.histograms, snapshot.sums))

    def skip(self) -> list[Snapshot]:
        """Take what was noted, and publish nothing: this process shares its measurements with no other one."""
        with self._lock:
            self.errors = merged_groups(self.errors, self.take_errors())
            return self._take_noted()

    def _take_noted(self) -> list[Snapshot]:
        return [self._noted.popleft() for _ in range(len(self._noted))]

    def exchange(self, stream: MeasurementStream, last_error: ErrorSeen | None = None) -> None:
        """Publish what was noted, then add it and what the others have published.

        Args:
            stream: The stream.
            last_error: The last error of this process.

        Raises:
            StoreError: The stream failed. What was noted counts, and is published by a later call.
        """
        with self._lock:
            noted = self._take_noted()
            self._unsent += noted
            if len(self._unsent) > _UNSENT:
                self._unsent = [joined(self._unsent)]
            self._see(last_error)
            errors = self.take_errors()
            self._unsent_errors = merged_groups(self._unsent_errors, errors)
            try:
                self._send(stream, last_error)
                restored, deltas = self._receive(stream)
            except BaseException as error:
                self.problem = redact_error(error)
                self.errors = merged_groups(self.errors, errors)
                self._add(noted, ())
                raise
            if restored is not None:
                self._add((), deltas, self._restored(restored))
            else:
                self.errors = merged_groups(self.errors, errors)
                self._add(noted, deltas)
            self.problem = None
            if not self._version and not self._replace_base(stream):
                # Another process was faster, and its base may contain what this one has not read.
                restored, deltas = self._receive(stream)
                self._add((), deltas, self._restored(restored) if restored is not None else None)

    def compact(self, stream: MeasurementStream) -> None:
        """Replace the base, if that is due: one process does it.

        Raises:
            StoreError: The stream failed.
        """
        with self._lock:
            now = self._clock()
            if self._beyond_base >= _MANY_DELTAS or (self._beyond_base and now - self._based_at >= _LONG):
                self._replace_base(stream)

    def _replace_base(self, stream: MeasurementStream) -> bool:
        if not self.before_base():
            return False
        self._based_at = self._clock()
        known = dict(list(self._known.items())[-_WRITERS:])
        version = uuid4().hex
        if not stream.replace_base(self._version, version, self._encoded_base(known), self._known):
            return False
        self._version, self._known, self._beyond_base = version, known, 0
        return True

    # Publishing

    def _send(self, stream: MeasurementStream, error: ErrorSeen | None) -> None:
        """Append what was not accepted yet; a delta whose acceptance is unknown is appended again as it was."""
        while True:
            if self._outgoing is None:
                whole = joined(self._unsent) if self._unsent else Snapshot(0.0, 0.0)
                news = error if error != self._error_sent else None
                groups = self._unsent_errors
                if whole.histograms or whole.sums or news or groups:
                    note: dict[str, Any] = {"at": self._wall_clock()}
                    if news is not None:
                        note["error"] = [news.text, news.time]
                    if groups:
                        note["errors"] = [group.as_record() for group in groups.values()]
                    self._outgoing = Delta(self._writer, self._sent + 1, self._codec.encode(whole, note))
                self._unsent, self._error_sent, self._unsent_errors = [], error, {}
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
            read = self._read_base(base) if base is not None else None
            if read is None:
                self._beyond_base = _MANY_DELTAS
                break
            self.since = min(self.since, read.since) if self._version else read.since
            if not _is_behind(_reach(known, deltas), read.known):
                break
            later, found = stream.read(read.known)
            if _reach(read.known, later).get(self._writer, 0) < self._sent:
                break  # the store was emptied meanwhile, and this process knows more than the new base
            restored, known, deltas = read, read.known, later
        self._version = version
        return restored, deltas

    def _read_base(self, base: Base) -> "_ReadBase | None":
        with readable("the base of the measurements", _reading):
            return _ReadBase.of(base, self._codec)
        return None

    def _restored(self, base: "_ReadBase") -> History:
        now = self._clock()
        entries = [
            self._codec.total([part], now - base.age - began, now - base.age - ended)
            for began, ended, part in base.entries
            if base.age + ended < self._span
        ]
        recent = self._codec.total(
            [part for _, ended, part in base.entries if base.age + ended < self._span],
            entries[0].start if entries else now,
            now,
        )
        total = self._codec.total([base.total], now - max(0.0, self._wall_clock() - base.since), now)
        self.since = base.since
        self._see(base.error)
        self.errors = merged_groups({}, base.errors)
        self._known = dict(base.known)
        self._beyond_base = 0
        self._ring.clear()
        return History.restored(total, recent, entries, span=self._span, resolution=self._resolution)

    def _add(self, noted: Sequence[Snapshot], deltas: Sequence[Delta], to: History | None = None) -> None:
        """Add what this process noted and the deltas of others `to` a history, which replaces the present one."""
        history = to or self.history
        parts: list[EncodedSnapshot] = []
        for delta in deltas:
            if self._known.get(delta.writer, 0) >= delta.number:
                continue
            self._known.pop(delta.writer, None)
            self._known[delta.writer] = delta.number
            self._beyond_base += 1
            with readable("a delta of the measurements", _reading):
                part = self._codec.decode(delta.content)
                self._see(_error_of(part.note.get("error")))
                groups = _groups_of(part.note.get("errors"))
                self.errors = merged_groups(self.errors, groups) if groups else self.errors
                parts.append(part)
        before, now = history.total.snapshot.end, self._clock()
        read = [self._codec.total(parts, before, now)] if parts else []
        whole = joined([*noted, *read]) if noted or read else Snapshot(before, now)
        if whole.histograms or whole.sums or now - before >= _IDLE:
            history.add(Snapshot(before, now, whole.histograms, whole.sums))
        self.history, self.joined = history, True

    def _see(self, error: ErrorSeen | None) -> None:
        if error is not None and (self.last_error is None or error.time > self.last_error.time):
            self.last_error = error

    # The base

    def _encoded_base(self, known: Mapping[str, int]) -> bytes:
        now = self._clock()
        entries = self.history.entries()
        self._ring = {id(entry): self._ring.get(id(entry)) or (entry, self._encoded(entry)) for entry in entries}
        contents = [self._encoded(self.history.total.snapshot), *(self._ring[id(entry)][1] for entry in entries)]
        error = self.last_error
        groups = zlib.compress(json.dumps([group.as_record() for group in self.errors.values()]).encode(), 1)
        head = {
            "format": _FORMAT,
            "known": known,
            "since": self.since,
            "error": [error.text, error.time] if error is not None else None,
            "ages": [(now - entry.start, now - entry.end) for entry in entries],
            "sizes": [len(content) for content in contents],
            "errors_size": len(groups),
        }
        return b"\n".join((json.dumps(head).encode(), b"".join((*contents, groups))))

    def _encoded(self, snapshot: Snapshot) -> bytes:
        return self._codec.encode(snapshot, {})


@dataclass(frozen=True, slots=True)
class _ReadBase:
    """A base that was read.

    Attributes:
        known: By writer, the number of the last delta that it contains.
        since: From when its total counts, in Unix seconds.
        error: The last error until then.
        errors: The groups of failed requests until then.
        total: Everything until then.
        entries: The entries of the ring, with the seconds from their starts and ends to when the base was written.
        age: Seconds since then.
    """

    known: dict[str, int]
    since: float
    error: ErrorSeen | None
    errors: Sequence[ErrorGroup]
    total: EncodedSnapshot
    entries: Sequence[tuple[float, float, EncodedSnapshot]]
    age: float

    @classmethod
    def of(cls, base: Base, codec: SnapshotCodec) -> "_ReadBase":
        line, _, contents = base.content.partition(b"\n")
        head: dict[str, Any] = json.loads(line)
        if head["format"] != _FORMAT:
            raise ValueError("the base has another format")
        parts, at = [], 0
        for size in map(int, head["sizes"]):
            parts.append(codec.decode(contents[at : at + size]))
            at += size
        errors = contents[at : at + int(head.get("errors_size", 0))]
        ages = [(float(began), float(ended)) for began, ended in head["ages"]]
        return cls(
            {str(writer): int(number) for writer, number in head["known"].items()},
            float(head["since"]),
            _error_of(head["error"]),
            _groups_of(json.loads(zlib.decompress(errors))) if errors else [],
            parts[0],
            [(*ages, part) for ages, part in zip(ages, parts[1:], strict=True)],
            max(0.0, base.age),
        )


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


def _is_behind(reach: Mapping[str, int], known: Mapping[str, int]) -> bool:
    return any(number > reach.get(writer, 0) for writer, number in known.items())
