"""`Buckets`: the counts of an exponential histogram packed into one whole number.

Adding two distributions is then one addition of Python's, whatever the number of buckets; and what one interval saw of
one series, where counts are small, takes a byte a bucket.
"""

import struct
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

_NARROW = 1
_WIDE = 8


class Buckets(NamedTuple):
    """Counts by bucket index, each below 2**64.

    Attributes:
        first: Index of the lowest bucket that is kept.
        packed_counts: The count of bucket `first + i` in bytes `width * i` to `width * (i + 1) - 1`.
        width: Bytes of one count: 1 as it was recorded, where that is enough; 8 once added up.
    """

    first: int = 0
    packed_counts: int = 0
    width: int = _WIDE

    @classmethod
    def of(cls, first: int, counts: Sequence[int]) -> "Buckets":
        """The `counts` of buckets `first`, `first + 1` and so on; none is negative."""
        try:
            return cls(first, int.from_bytes(bytes(counts), "little"), _NARROW)
        except ValueError:  # one of them is above 255
            return cls(first, _packed(counts))

    def counts(self) -> Sequence[int]:
        """How many values are in bucket `first`, `first + 1` and so on."""
        size = -(-self.packed_counts.bit_length() // (8 * self.width))
        data = self.packed_counts.to_bytes(size * self.width, "little")
        return data if self.width == _NARROW else struct.unpack(f"<{size}Q", data)

    def plus(self, other: "Buckets") -> "Buckets":
        """Both together."""
        first = min(other.first, self.first)
        return Buckets(first, self.lanes_from(first) + other.lanes_from(first))

    @staticmethod
    def total(parts: "Iterable[Buckets]") -> "Buckets":
        """All `parts` together."""
        filled = [part for part in parts if part.packed_counts]
        first = min((part.first for part in filled), default=0)
        return Buckets(first, sum([part.lanes_from(first) for part in filled]))

    def minus(self, part: "Buckets") -> "Buckets":
        """What remains without `part`, which is contained in these."""
        first = min(self.first, part.first)
        return Buckets(first, self.lanes_from(first) - part.lanes_from(first))

    def coarser(self, halvings: int) -> "Buckets":
        """At half the resolution, `halvings` times: buckets 2i and 2i + 1 become i."""
        if not halvings or not self.packed_counts:
            return self
        first = self.first >> halvings
        counts = self.counts()
        joined = [0] * (((self.first + len(counts) - 1) >> halvings) - first + 1)
        for index, count in enumerate(counts, self.first):
            joined[(index >> halvings) - first] += count
        return Buckets.of(first, joined)

    def at(self, rank: float) -> tuple[int, float] | None:
        """Where the value of `rank` is: its bucket's index and the share of that bucket below it; None: above all."""
        counts = self.counts()
        below = list(accumulate(counts))
        position = bisect_left(below, rank)
        if position == len(below):
            return None
        inside = counts[position]
        return self.first + position, (rank - below[position] + inside) / inside

    def lanes_from(self, first: int) -> int:
        """The lanes, eight bytes wide, beginning at bucket `first`, which is not above the own one."""
        packed_counts = self.packed_counts
        if self.width == _NARROW:
            narrow = packed_counts.to_bytes((packed_counts.bit_length() + 7) // 8, "little")
            wide = bytearray(_WIDE * len(narrow))
            wide[::_WIDE] = narrow
            packed_counts = int.from_bytes(wide, "little")
        return packed_counts << 8 * _WIDE * (self.first - first) if self.first != first else packed_counts


def _packed(counts: Sequence[int]) -> int:
    return int.from_bytes(struct.pack(f"<{len(counts)}Q", *counts), "little")


NO_BUCKETS = Buckets()
