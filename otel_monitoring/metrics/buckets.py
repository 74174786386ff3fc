"""`Buckets`: the bucket counts of an exponential histogram, packed into one integer.

Adding two distributions is then one integer addition, whatever the number of buckets. A count takes as many bytes as
the largest may need: one in most intervals.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from operator import add
from typing import NamedTuple

KINDS = {1: "B", 2: "H", 4: "I", 8: "Q"}
"""The bytes that a count may take, each with its code of `struct`."""
_MASKED = 4096
"""The most bytes of counts that are looked at for room."""
_HIGHEST_BITS = {width: int.from_bytes((bytes(width - 1) + b"\x80") * (_MASKED // width), "little") for width in KINDS}
"""The highest bit of each count, by the bytes of a count."""


class Buckets(NamedTuple):
    """Counts by bucket index; each count is below 2**64.

    Attributes:
        first: Index of the lowest stored bucket.
        packed_counts: The count of bucket `first + i` is in bytes `width * i` to `width * (i + 1) - 1`, little-endian.
        width: Bytes of one count: 1, 2, 4 or 8, enough for every count.
    """

    first: int = 0
    packed_counts: int = 0
    width: int = 1

    @classmethod
    def of(cls, first: int, counts: Sequence[int]) -> "Buckets":
        """Pack `counts`, which are those of buckets `first`, `first + 1` and so on; none is negative."""
        width = width_of(max(counts, default=0))
        return cls(first, int.from_bytes(struct.pack(f"<{len(counts)}{KINDS[width]}", *counts), "little"), width)

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
        return cls(first, int.from_bytes(data, "little"))

    @property
    def size(self) -> int:
        """The number of buckets up to the last that is not empty."""
        return -(-self.packed_counts.bit_length() // (8 * self.width))

    def counts(self) -> Sequence[int]:
        """The counts of buckets `first`, `first + 1` and so on."""
        size = self.size
        data = self.packed_counts.to_bytes(size * self.width, "little")
        return data if self.width == 1 else struct.unpack(f"<{size}{KINDS[self.width]}", data)

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

    def below(self, place: float) -> float:
        """How many values are below `place`, a bucket's index and the share of the bucket that is below."""
        index = math.floor(place)
        counts = self.counts()
        whole = min(max(index - self.first, 0), len(counts))
        inside = counts[whole] * (place - index) if self.first <= index < self.first + len(counts) else 0.0
        return sum(counts[:whole]) + inside


def widened(packed_counts: int, width: int, wider: int) -> int:
    """Packed counts of `width` bytes each with `wider` bytes each, which is not less."""
    if width == wider:
        return packed_counts
    size = -(-packed_counts.bit_length() // (8 * width))
    present, wide = packed_counts.to_bytes(size * width, "little"), bytearray(size * wider)
    if width == 1:
        wide[::wider] = present
    else:
        for place in range(width):
            wide[place::wider] = present[place::width]
    return int.from_bytes(wide, "little")


def have_room(packed_counts: int, width: int) -> bool:
    """Whether each of the counts may be doubled; False for so many that it would take long to find out."""
    return packed_counts.bit_length() <= 8 * _MASKED and not packed_counts & _HIGHEST_BITS[width]


def width_of(most: int) -> int:
    """The bytes of a count that may be as large as `most`."""
    return 1 if most < 2**8 else 2 if most < 2**16 else 4 if most < 2**32 else 8


NO_BUCKETS = Buckets()
