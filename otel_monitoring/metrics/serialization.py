"""The bytes of a snapshot's histograms and counters, for a store that several processes share.

A reader pays for each series, so a series is one text, which is decoded once and then looked up, and the figures of all
histograms are one array of fixed records.
"""

import json
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from otel_monitoring.errors import StoreError
from otel_monitoring.guard import fail_open
from otel_monitoring.metrics.buckets import Buckets
from otel_monitoring.metrics.snapshot import AttributeValue, Histogram, Series, Snapshot

_FORMAT = 1
_COMPRESSION = 1
_LARGEST = 64 * 1024 * 1024
"""The most bytes that a content may have when it is uncompressed."""
_HEAD = struct.Struct("<III")
"""Bytes of the head and of the texts of the series, and number of histograms; counters are the rest."""
_RECORD = struct.Struct("<QdddbQiIB")
"""Count, sum, minimum, maximum, scale, values at zero, first bucket, bytes of the bucket counts, bytes of one."""
_MAX_KNOWN = 50_000
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


class SnapshotCodec:
    """Encodes and decodes snapshots; it remembers the texts of series. One thread at a time uses it."""

    def __init__(self) -> None:
        self._texts: dict[Series, str] = {}
        self._series: dict[str, Series] = {}

    def encode(self, snapshot: Snapshot, note: Mapping[str, Any]) -> bytes:
        """The histograms and counters of `snapshot`, without its gauges.

        Args:
            snapshot: The snapshot; of its times only the length is kept.
            note: Further values that JSON can represent.
        """
        head = {"format": _FORMAT, "seconds": snapshot.end - snapshot.start, **note}
        texts: list[str] = []
        records: list[bytes] = []
        counts: list[bytes] = []
        for series, histogram in snapshot.histograms.items():
            first, packed, width = histogram.buckets
            inside = packed.to_bytes((packed.bit_length() + 7) // 8, "little")
            texts.append(self._text(series))
            records.append(
                _RECORD.pack(
                    *(histogram.count, histogram.sum, histogram.min, histogram.max, histogram.scale),
                    *(histogram.at_zero, first, len(inside), width),
                )
            )
            counts.append(inside)
        texts += map(self._text, snapshot.sums)
        values = struct.pack(f"<{len(snapshot.sums)}d", *snapshot.sums.values())
        first_part, names = json.dumps(head).encode(), "\n".join(texts).encode()
        sizes = _HEAD.pack(len(first_part), len(names), len(records))
        parts = (sizes, first_part, names, *records, values, *counts)
        return zlib.compress(b"".join(parts), _COMPRESSION)

    def decode(self, content: bytes | memoryview) -> "EncodedSnapshot":
        """Read what `encode` wrote.

        Raises:
            UNREADABLE: Another version wrote it, or it is damaged.
        """
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(content, _LARGEST)
        if not unpacker.eof:
            raise ValueError("the content is incomplete or too large")
        head_size, names_size, size = _HEAD.unpack_from(data)
        at = _HEAD.size + head_size
        note = json.loads(data[_HEAD.size : at])
        if note.pop("format") != _FORMAT:
            raise ValueError("the content has another format")
        texts, at = data[at : at + names_size].decode(), at + names_size
        series = texts.split("\n") if texts else []
        for text in set(series) - self._series.keys():
            _remember(self._series, text, _series(text))
        end = at + size * _RECORD.size
        records = list(_RECORD.iter_unpack(memoryview(data)[at:end]))
        sums = struct.unpack_from(f"<{len(series) - size}d", data, end)
        counts = data[end + 8 * len(sums) :]
        if len(counts) != sum(map(_bytes_of, records)) or not {record[_WIDTH] for record in records} <= {1, 8}:
            raise ValueError("the content is damaged")
        return EncodedSnapshot(float(note.pop("seconds")), note, series, records, counts, sums)

    def total(self, parts: Sequence["EncodedSnapshot"], start: float, end: float) -> Snapshot:
        """The sum of `parts`, as the snapshot of an interval."""
        found: dict[str, list[tuple[tuple[Any, ...], int]]] = {}
        sums: dict[Series, float] = {}
        for part in parts:
            for text, row in zip(part.series, part.rows(), strict=False):
                known = found.get(text)
                if known is None:
                    found[text] = [row]
                else:
                    known.append(row)
            for text, value in zip(part.series[len(part.records) :], part.sums, strict=True):
                series = self.series_of(text)
                sums[series] = sums.get(series, 0) + value
        return Snapshot(start, end, {self.series_of(text): histogram_of(rows) for text, rows in found.items()}, sums)

    def _text(self, series: Series) -> str:
        text = self._texts.get(series)
        if text is None:
            text = json.dumps((series.name, series.attributes), separators=(",", ":"))
            _remember(self._texts, series, text)
        return text

    def series_of(self, text: str) -> Series:
        """The series of a text of `EncodedSnapshot.series`."""
        return self._series.get(text) or _series(text)


@dataclass(frozen=True, slots=True)
class EncodedSnapshot:
    """A snapshot whose histograms are not made yet.

    Attributes:
        seconds: Its length.
        note: What was encoded with it.
        series: The text of each series, those of the histograms first.
        records: The figures of each histogram.
        counts: The bucket counts of all histograms.
        sums: The increase of each counter.
    """

    seconds: float
    note: dict[str, Any]
    series: Sequence[str]
    records: Sequence[tuple[Any, ...]]
    counts: bytes
    sums: Sequence[float]

    def rows(self) -> Iterator[tuple[tuple[Any, ...], int]]:
        """The figures of each histogram and its bucket counts as an integer."""
        end, make, counts = 0, int.from_bytes, self.counts
        for record in self.records:
            begin, end = end, end + record[_SIZE]
            yield record, make(counts[begin:end], "little")


_SIZE, _WIDTH = 7, 8
_bytes_of = itemgetter(_SIZE)


def histogram_of(rows: Sequence[tuple[tuple[Any, ...], int]]) -> Histogram:
    """The sum of the histograms of `EncodedSnapshot.rows`; they are many, so none is made for a part."""
    if len(rows) == 1:
        (count, total, least, most, scale, at_zero, first, _, width), packed = rows[0]
        return Histogram(count, total, least, most, scale, at_zero, Buckets(first, packed, width))
    (counts, totals, smallest, largest, scales, zeros, firsts, _, widths) = zip(*[row[0] for row in rows], strict=True)
    count, scale = sum(counts), min(scales)
    buckets = [Buckets(first, row[1], width) for first, row, width in zip(firsts, rows, widths, strict=True)]
    if scale != max(scales):
        buckets = [one.coarser(of - scale) for one, of in zip(buckets, scales, strict=True)]
    return Histogram(
        *(count, sum(totals), min(smallest), max(largest), scale, sum(zeros)), Buckets.total(buckets, count)
    )


def _series(text: str) -> Series:
    name, attributes = json.loads(text)
    return Series(str(name), tuple((str(key), _attribute(value)) for key, value in attributes))


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
