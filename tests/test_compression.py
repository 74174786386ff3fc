"""What is compressed is read by every reader, and is no larger than the usual."""

import gzip
import random
import zlib

import pytest

from otel_monitoring.compression import compressed

WORDS = [b"http.server.request.duration", b"GET", b"/orders/{id}", b"200", b"\x00\x01\x02"]


def content(size: int) -> bytes:
    chosen = random.Random(size)
    return b"".join(chosen.choice(WORDS) + bytes([chosen.randrange(256)]) for _ in range(size))[:size]


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 513, 4_000, 32_768, 32_769, 70_000, 1_000_000])
@pytest.mark.parametrize("level", [-1, 1, 9])
def test_every_size_is_read_again(size: int, level: int) -> None:
    given = content(size)
    assert zlib.decompress(compressed(given, level)) == given
    assert zlib.decompressobj().decompress(compressed(given, level)) == given
    assert gzip.decompress(compressed(given, level, as_gzip=True)) == given
    assert len(compressed(given, level)) <= 1.05 * len(zlib.compress(given, level)) + 16
