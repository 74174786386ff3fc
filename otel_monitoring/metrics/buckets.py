"""`Buckets`: the bucket counts of an exponential histogram, packed into one integer.

Adding two distributions is then one integer addition, whatever the number of buckets. The small counts of one interval
take one byte for each bucket.
"""

import struct
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from operator import add
from typing import NamedTuple

_NARROW = 1
_WIDE = 8


class Buckets(NamedTuple):
    """Counts by bucket index; each count is below 2**64.

    Attributes:
        first: Index of the lowest stored bucket.
        packed_counts: The count of bucket `first + i` is in bytes `width * i` to `width * (i + 1) - 1`, little-endian.
        width: Bytes of one count: 1 or 8; where it is 1, every count is below 256.
    """

    first: int = 0
    packed_counts: int = 0
    width: int = _WIDE

    @classmethod
    def of(cls, first: int, counts: Sequence[int]) -> "Buckets":
        """Pack `counts`, which are those of buckets `first`, `first + 1` and so on; none is negative."""
        try:
            return cls(first, int.from_bytes(bytes(counts), "little"), _NARROW)
        except ValueError:  # a count is above 255
            return cls(first, _packed(counts))

    @classmethod
    def of_indexes(cls, counts: Mapping[int, int]) -> "Buckets":
        """Pack `counts` by bucket index; none is negative."""
        first = min(counts, default=0)
        size = max(counts, default=-1) - first + 1
        data = bytearray(size)
        try:
            for index, count in counts.items():
                data[index - first] = count
        except ValueError:  # a count is above 255
            return cls.of(first, [counts.get(index, 0) for index in range(first, first + size)])
        return cls(first, int.from_bytes(data, "little"), _NARROW)

    @property
    def size(self) -> int:
        """The number of buckets up to the last that is not empty."""
        return -(-self.packed_counts.bit_length() // (8 * self.width))

    def counts(self) -> Sequence[int]:
        """The counts of buckets `first`, `first + 1` and so on."""
        size = self.size
        data = self.packed_counts.to_bytes(size * self.width, "little")
        return data if self.width == _NARROW else struct.unpack(f"<{size}Q", data)

    def plus(self, other: "Buckets") -> "Buckets":
        """The sums of both counts of each bucket."""
        first = min(other.first, self.first)
        return Buckets(first, self.wide_counts(first) + other.wide_counts(first))

    @staticmethod
    def total(parts: "Iterable[Buckets]", most: int) -> "Buckets":
        """The sums of the counts of each bucket over all `parts`, none of which is above `most`."""
        filled = [part for part in parts if part.packed_counts]
        first = min((part.first for part in filled), default=0)
        if most < 256 and all(part.width == _NARROW for part in filled):
            packed = sum([part.packed_counts << 8 * (part.first - first) for part in filled])
            return Buckets(first, packed, _NARROW)
        return Buckets(first, sum([part.wide_counts(first) for part in filled]))

    def minus(self, part: "Buckets") -> "Buckets":
        """The counts less those of `part`, none of which is larger."""
        first = min(self.first, part.first)
        return Buckets(first, self.wide_counts(first) - part.wide_counts(first))

    def coarser(self, halvings: int) -> "Buckets":
        """The counts at a resolution halved `halvings` times: each halving joins buckets 2i and 2i + 1 to bucket i."""
        if not halvings or not self.packed_counts:
            return self
        first, counts = self.first, list(self.counts())
        for _ in range(halvings):
            if first % 2:
                counts.insert(0, 0)
            if len(counts) % 2:
                counts.append(0)
            first //= 2
            counts = list(map(add, counts[::2], counts[1::2]))
        return Buckets.of(first, counts)

    def at(self, ranks: Iterable[float]) -> list[tuple[int, float] | None]:
        """For each rank, above 0, the bucket in which its value lies and the share (0 to 1) of it below; None: none."""
        counts = self.counts()
        below = list(accumulate(counts))
        found: list[tuple[int, float] | None] = []
        for rank in ranks:
            position = bisect_left(below, rank)
            if position == len(below):
                found.append(None)
            else:
                inside = counts[position]
                found.append((self.first + position, (rank - below[position] + inside) / inside))
        return found

    def wide_counts(self, first: int) -> int:
        """The counts packed with eight bytes each, beginning at bucket `first`, which is at most `self.first`."""
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
