"""The bytes of a slice, in two parts: the service, which every chart reads, and its routes, which few do."""

import json
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from otel_monitoring.compression import compressed
from otel_monitoring.guard import fail_open
from otel_monitoring.metrics.buckets import KINDS, Buckets, width_of
from otel_monitoring.metrics.serialization import readable
from otel_monitoring.metrics.slices.model import GaugeFigures, Requests, Slice
from otel_monitoring.metrics.slices.table import SliceRow
from otel_monitoring.metrics.snapshot import Histogram

_FORMAT = 3
_LARGEST = 16 * 1024 * 1024
"""The most bytes that a part may have when it is uncompressed."""
_LARGEST_FLOAT = 3.4e38
_SIZE = struct.Struct("<I")
# A column holds one figure of every route, so that like is beside like when it is compressed.
_COLUMNS = "QQfffbQiIB"
"""Count, errors, sum, minimum, maximum, scale, values at zero, first bucket, number of buckets, bytes of a bucket."""
_LENGTH, _WIDTH = 8, 9
_SHORT = {3: b"\0", 4: b"\xff"}
"""Minimum and maximum are stored without their lower two bytes, which are read as these: the range only grows."""
_LOW = 2
_ALL = ""
"""The name under which the requests of all routes are packed; beside them, histograms have their own."""
reading = fail_open("reading slices of the past")
"""The guard around what is read of the slices."""


def encoded_service(content: Slice) -> bytes:
    """The figures of the service; `routes` are not in them."""
    histograms = {name: Requests(found) for name, found in content.histograms.items() if name != _ALL}
    head = {
        "format": _FORMAT,
        "routes": [_ALL, *histograms],
        "seconds": content.seconds,
        "gauges": {n: [f.count, f.total, f.least, f.most] for n, f in content.gauges.items()},
        "counters": dict(content.counters),
    }
    return _packed(head, [content.requests, *histograms.values()])


def encoded_routes(routes: Mapping[str, Requests]) -> bytes:
    """The requests of each route."""
    return _packed({"format": _FORMAT, "routes": list(routes)}, routes.values())


def decoded_service(content: bytes) -> Slice:
    """Read what `encoded_service` wrote.

    Raises:
        UNREADABLE: Another version wrote it, or it is damaged; see `metrics.serialization`.
    """
    head, requests = _unpacked(content)
    gauges = {str(name): GaugeFigures(int(f[0]), *map(float, f[1:4])) for name, f in head["gauges"].items()}
    counters = {str(name): float(value) for name, value in head["counters"].items()}
    histograms = {name: one.durations for name, one in requests.items() if name != _ALL}
    return Slice(float(head["seconds"]), requests[_ALL], {}, gauges, counters, histograms)


def decoded_routes(content: bytes, only: str | None = None) -> dict[str, Requests]:
    """Read what `encoded_routes` wrote.

    Args:
        content: The bytes.
        only: The one route to read, which costs less; None: all.

    Raises:
        UNREADABLE: Another version wrote it, or it is damaged; see `metrics.serialization`.
    """
    _, requests = _unpacked(content, only)
    return requests


def decoded_slices(rows: Iterable[SliceRow], route: str | None = None) -> list[Slice]:
    """The slices that can be read, with the routes that their rows have.

    Args:
        rows: The rows.
        route: The one route to read; None: all.
    """
    found = []
    for row in rows:
        with readable("a slice of the past", reading):
            routes = decoded_routes(row.routes, route) if row.routes else {}
            found.append(decoded_service(row.service)._replace(routes=routes))
    return found


def _packed(head: Mapping[str, Any], requests: Iterable[Requests]) -> bytes:
    rows, counts = [], []
    for one in requests:
        durations = one.durations
        inside = durations.buckets.counts()
        width = width_of(max(inside, default=0))
        counts.append(struct.pack(f"<{len(inside)}{KINDS[width]}", *inside))
        rows.append(
            (
                *(durations.count, one.errors, min(durations.sum, _LARGEST_FLOAT)),
                *(min(durations.min, _LARGEST_FLOAT), max(-1.0, min(durations.max, _LARGEST_FLOAT))),
                *(durations.scale, durations.at_zero, durations.first, len(inside), width),
            )
        )
    columns = zip(*rows, strict=True)
    figures = [
        _column(kind, column, short=number in _SHORT)
        for number, (kind, column) in enumerate(zip(_COLUMNS, columns, strict=bool(rows)))
    ]
    text = json.dumps(head, separators=(",", ":")).encode()
    return compressed(b"".join((_SIZE.pack(len(text)), text, _SIZE.pack(len(rows)), *figures, *counts)))


def _column(kind: str, figures: Sequence[Any], *, short: bool) -> bytes:
    """One figure of every route: first the lowest byte of each, then the next, because like bytes compress well."""
    data, width = struct.pack(f"<{len(figures)}{kind}", *figures), struct.calcsize(f"<{kind}")
    return b"".join([data[place::width] for place in range(_LOW if short else 0, width)])


def _figures(kind: str, data: bytes, low: bytes | None) -> Sequence[Any]:
    """The figures of a column; `low` is what each of the lower bytes is read as where they are not stored."""
    width, missing = struct.calcsize(f"<{kind}"), 0 if low is None else _LOW
    count = len(data) // (width - missing)
    whole = data if low is None else low * (count * missing) + data
    ordered = bytearray(len(whole))
    for place in range(width):
        ordered[place::width] = whole[place * count : (place + 1) * count]
    return struct.unpack(f"<{count}{kind}", ordered)


def _unpacked(content: bytes, only: str | None = None) -> tuple[dict[str, Any], dict[str, Requests]]:
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(content, _LARGEST)
    if not unpacker.eof:
        raise ValueError("the content is incomplete or too large")
    (size,) = _SIZE.unpack_from(data)
    at = _SIZE.size + size
    head = json.loads(data[_SIZE.size : at])
    if head["format"] != _FORMAT:
        raise ValueError("the content has another format")
    (rows,) = _SIZE.unpack_from(data, at)
    if rows != len(head["routes"]):
        raise ValueError("the content is damaged")
    at += _SIZE.size
    columns: list[Sequence[Any]] = []
    for number, kind in enumerate(_COLUMNS):
        low = _SHORT.get(number)
        size = rows * (struct.calcsize(f"<{kind}") - (0 if low is None else _LOW))
        columns.append(_figures(kind, data[at : at + size], low))
        at += size
    found = {}
    for name, figures in zip(head["routes"], zip(*columns, strict=True), strict=True):
        end = at + figures[_LENGTH] * figures[_WIDTH]
        if only is None or name == only:
            found[str(name)] = _requests(figures, data[at:end])
        at = end
    if at != len(data):
        raise ValueError("the content is damaged")
    return head, found


def _requests(figures: Sequence[Any], counts: bytes) -> Requests:
    count, errors, total, least, most, scale, at_zero, first, length, width = figures
    buckets = _buckets(first, counts, width) if length else Buckets()
    least, most = (least, most) if count else (float("inf"), float("-inf"))
    return Requests(Histogram(count, total, least, most, scale, at_zero, *buckets), errors)


def _buckets(first: int, counts: bytes, width: int) -> Buckets:
    if width not in KINDS:
        raise ValueError("the content is damaged")
    return Buckets(first, int.from_bytes(counts, "little"), width)
