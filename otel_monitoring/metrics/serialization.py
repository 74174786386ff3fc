"""The bytes of a snapshot's histograms and counters, for a store that several processes share.

A reader pays for each series, so a series is one text, which is decoded once and then looked up, and the figures of all
histograms are two arrays of fixed records: doubles, which compression hardly shrinks, and integers, which it does.
"""

import json
import struct
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise
from math import inf
from sys import intern
from typing import Any, NamedTuple, TypeVar

from otel_monitoring.compression import compressed
from otel_monitoring.errors import StoreError
from otel_monitoring.guard import fail_open
from otel_monitoring.metrics.buckets import KINDS
from otel_monitoring.metrics.snapshot import AttributeValue, Row, Series, Snapshot, added, histogram_of
from otel_monitoring.runtime.give_way import give_way, giving_way

K = TypeVar("K")

_FORMAT = 2
_COMPRESSION = 1
_LARGEST = 64 * 1024 * 1024
"""The most bytes that a content may have when it is uncompressed."""
_HEAD = struct.Struct("<IIIII")
"""The format, bytes of the compressed names, of the compressed note and of the doubles, number of histograms."""
_DOUBLES = struct.Struct("<ddd")
"""Sum, minimum, maximum."""
_INTEGERS = struct.Struct("<QbQi")
"""Count, scale, values at zero, first bucket. Before those of all come the bytes of all bucket counts, then of one."""
_MAX_KNOWN = 50_000
_NAMES = 16
"""The number of snapshots whose names are remembered: enough for one of each busy process."""
UNREADABLE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    RecursionError,
    struct.error,
    zlib.error,
)
"""What `decode` raises for a content that another version wrote, or that is damaged."""


@contextmanager
def readable(what: str, guard: fail_open) -> Iterator[None]:
    """Leave out stored content that cannot be read: `guard` counts it, and logs which it was in one line.

    Args:
        what: What is read, with its article.
        guard: Contains the failure.
    """
    with guard:
        try:
            yield
        except UNREADABLE as error:
            raise StoreError(f"{what} cannot be read") from error


class PackedSnapshot(NamedTuple):
    """The histograms and counters of a snapshot, in a quarter of its memory.

    Attributes:
        start: Start of the interval.
        end: End of the interval.
        rows: The position of each histogram; snapshots with the same histograms share it.
        doubles: The sum, minimum and maximum of each histogram.
        integers: The other figures of each histogram, then the bucket counts of all, compressed.
        sums: The increases of counters.
    """

    start: float
    end: float
    rows: Mapping[Series, int]
    doubles: bytes
    integers: bytes
    sums: Mapping[Series, float]

    @classmethod
    def of(cls, snapshot: Snapshot, like: "PackedSnapshot | None" = None) -> "PackedSnapshot":
        """Pack a snapshot; `like` is one that probably has the same histograms."""
        series, doubles, integers, sizes, widths, counts = [], [], [], [], [], []
        for one, histogram in giving_way(snapshot.histograms.items()):
            count, total, least, most, scale, at_zero, first, packed_counts, width = histogram
            size = (packed_counts.bit_length() + 7) // 8
            series.append(one)
            doubles.append(_DOUBLES.pack(total, least, most))
            integers.append(_INTEGERS.pack(count, scale, at_zero, first))
            sizes.append(size)
            widths.append(width)
            counts.append(packed_counts.to_bytes(size, "little"))
        same = like is not None and list(like.rows) == series
        rows = like.rows if like is not None and same else {one: row for row, one in enumerate(series)}
        packed = _deflated(struct.pack(f"<{len(sizes)}I", *sizes), bytes(widths), *integers, *counts)
        return cls(snapshot.start, snapshot.end, rows, b"".join(doubles), packed, snapshot.sums)

    def histograms(self) -> dict[Series, Row]:
        """The fields of each histogram."""
        found: dict[Series, Row] = {}
        _add(self.rows, self.doubles, zlib.decompress(self.integers), found)
        return found


def extremes(snapshots: Iterable[PackedSnapshot], series: Series) -> tuple[float, float]:
    """The smallest and the largest value of a histogram in all snapshots; `inf` and `-inf`: it is in none."""
    smallest, largest = inf, -inf
    rows: Mapping[Series, int] | None = None
    row: int | None = None
    for snapshot in snapshots:
        if snapshot.rows is not rows:  # most have those of the one before
            rows = snapshot.rows
            row = rows.get(series)
        if row is not None:
            _, least, most = _DOUBLES.unpack_from(snapshot.doubles, row * _DOUBLES.size)
            if least < smallest:
                smallest = least
            if most > largest:
                largest = most
    return smallest, largest


class SnapshotCodec:
    """Encodes and decodes snapshots; it remembers the texts of series. One thread at a time uses it."""

    def __init__(self) -> None:
        self._texts: dict[Series, str] = {}
        self._series: dict[str, Series] = {}
        self._encoded: PackedSnapshot | None = None
        self._names: tuple[Mapping[Series, int], Mapping[Series, float], bytes] | None = None
        self._read_names: dict[bytes, list[str]] = {}

    def encode(self, snapshot: "Snapshot | PackedSnapshot", note: Mapping[str, Any]) -> bytes:
        """The histograms and counters of `snapshot`, without its gauges.

        Args:
            snapshot: The snapshot; of its times only the length is kept.
            note: Further values that JSON can represent.
        """
        packed = snapshot if isinstance(snapshot, PackedSnapshot) else PackedSnapshot.of(snapshot, self._encoded)
        self._encoded = packed
        names = self._names_of(packed)
        notes = _deflated(json.dumps({"seconds": packed.end - packed.start, **note}).encode())
        doubles = packed.doubles + struct.pack(f"<{len(packed.sums)}d", *packed.sums.values())
        head = _HEAD.pack(_FORMAT, len(names), len(notes), len(doubles), len(packed.rows))
        return b"".join((head, names, notes, doubles, packed.integers))

    def _names_of(self, packed: PackedSnapshot) -> bytes:
        """The compressed texts of all series; kept, because snapshots that follow one another often have the same."""
        known = self._names
        if known is None or known[0] is not packed.rows or list(known[1]) != list(packed.sums):
            names = _deflated("\n".join(map(self._text, (*packed.rows, *packed.sums))).encode())
            known = self._names = packed.rows, packed.sums, names
        return known[2]

    def decode(self, content: bytes | memoryview) -> "EncodedSnapshot":
        """Read what `encode` wrote.

        Raises:
            UNREADABLE: Another version wrote it, or it is damaged.
        """
        form, *sizes, size = _HEAD.unpack_from(content)
        if form != _FORMAT:
            raise ValueError("the content has another format")
        ends = accumulate((_HEAD.size, *sizes, len(content) - sum(sizes)))
        names, notes, doubles, integers = (bytes(content[begin:end]) for begin, end in pairwise(ends))
        series = self._series_named(names)
        note = json.loads(_inflated(notes))
        middle = size * _DOUBLES.size
        sums = struct.unpack(f"<{len(series) - size}d", doubles[middle:])
        figures = _inflated(integers)
        _check(doubles[:middle], figures, size)
        return EncodedSnapshot(float(note.pop("seconds")), note, series, doubles[:middle], figures, series[size:], sums)

    def _series_named(self, names: bytes) -> list[str]:
        """The texts of the series of a snapshot; those of the last ones are remembered."""
        known = self._read_names.get(names)
        if known is None:
            texts = _inflated(names).decode()
            # One text for equal series, as `1` of one process and `true` of another are the same attribute to Python.
            known = [self._text(self.series_of(text)) for text in texts.split("\n")] if texts else []
            if len(self._read_names) >= _NAMES:
                self._read_names.clear()
            self._read_names[names] = known
        return known

    def total(
        self, parts: Sequence["EncodedSnapshot"], start: float, end: float, own: Snapshot | None = None
    ) -> Snapshot:
        """The sum of `parts` and of `own`, which is not encoded, as the snapshot from `start` to `end`, in seconds."""
        found: dict[str, Row] = {}
        sums: dict[Series, float] = {}
        if own is not None:
            sums |= own.sums
            found = {self._text(series): histogram for series, histogram in giving_way(own.histograms.items())}
        for part in parts:
            give_way()
            part.add_to(found)
            for text, value in zip(part.counters, part.sums, strict=True):
                series = self.series_of(text)
                sums[series] = sums.get(series, 0) + value
        histograms = {self.series_of(text): histogram_of(row) for text, row in giving_way(found.items())}
        return Snapshot(start, end, histograms, sums)

    def _text(self, series: Series) -> str:
        text = self._texts.get(series)
        if text is None:
            text = intern(json.dumps((series.name, series.attributes), separators=(",", ":")))
            _remember(self._texts, series, text)
            _remember(self._series, text, series)  # one object, shared with what is read
        return text

    def series_of(self, text: str) -> Series:
        """The series of a text of `EncodedSnapshot.series`."""
        return self._series.get(text) or _series(text)


class EncodedSnapshot(NamedTuple):
    """A snapshot whose histograms are not made yet.

    Attributes:
        seconds: Its length.
        note: What was encoded with it.
        series: The text of each series, those of the histograms first.
        doubles: The sum, minimum and maximum of each histogram.
        integers: The other figures of each histogram, then the bucket counts of all.
        counters: The text of the series of each counter.
        sums: The increase of each counter.
    """

    seconds: float
    note: dict[str, Any]
    series: Sequence[str]
    doubles: bytes
    integers: bytes
    counters: Sequence[str]
    sums: Sequence[float]

    def add_to(self, found: dict[str, Row]) -> None:
        """Add the histograms to those with the same text."""
        _add(self.series[: len(self.doubles) // _DOUBLES.size], self.doubles, self.integers, found)


def _add(keys: Collection[K], doubles: bytes, integers: bytes, found: dict[K, Row]) -> None:
    """Add histograms to those with the same key."""
    # Every series of every process comes here in every interval: columns and generators would be slower.
    sizes, widths, records, end = _split(integers, len(keys))
    get, number = found.get, int.from_bytes
    figures = zip(
        giving_way(keys), _DOUBLES.iter_unpack(doubles), _INTEGERS.iter_unpack(records), sizes, widths, strict=True
    )
    for key, (total, least, most), (count, scale, at_zero, first), size, width in figures:
        packed_counts = number(integers[end : (end := end + size)], "little")
        row = count, total, least, most, scale, at_zero, first, packed_counts, width
        known = get(key)
        found[key] = row if known is None else added(known, row)


def _split(integers: bytes, size: int) -> tuple[tuple[int, ...], bytes, memoryview, int]:
    """The bytes that the counts of each histogram take, those that one count takes, the records, and where they end."""
    sizes = struct.Struct(f"<{size}I")
    widths = sizes.size + size
    end = widths + size * _INTEGERS.size
    return sizes.unpack_from(integers), integers[sizes.size : widths], memoryview(integers)[widths:end], end


def _check(doubles: bytes, integers: bytes, size: int) -> None:
    """See that these are those of so many histograms."""
    sizes, widths, _, end = _split(integers, size)
    whole = len(doubles) == size * _DOUBLES.size and len(integers) == end + sum(sizes)
    if not whole or not KINDS.keys() >= set(widths):
        raise ValueError("the content is damaged")


def _deflated(*parts: bytes) -> bytes:
    return compressed(b"".join(parts), _COMPRESSION)


def _inflated(content: bytes | memoryview) -> bytes:
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(content, _LARGEST)
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("the content is incomplete or too large")
    return data


def _series(text: str) -> Series:
    name, attributes = json.loads(text)
    # All series have the same few names, which are kept once.
    return Series(intern(str(name)), tuple((intern(str(key)), _attribute(value)) for key, value in attributes))


def _attribute(value: Any) -> AttributeValue:
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
        return tuple(value)
    raise ValueError("an attribute has no value")


def _remember(known: dict[Any, Any], key: Any, value: Any) -> None:
    if len(known) >= _MAX_KNOWN:
        known.clear()
    known[key] = value
