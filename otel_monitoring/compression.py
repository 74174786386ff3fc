"""`compressed`: content in the format of zlib or gzip, by no more memory than the content needs."""

import zlib

_SMALLEST, _LARGEST = 9, 15
"""The logarithms of zlib's windows."""
_GZIP = 16
"""What zlib adds to a window's logarithm for the format of gzip."""


def compressed(content: bytes, level: int = zlib.Z_DEFAULT_COMPRESSION, *, as_gzip: bool = False) -> bytes:
    """`content` in the format of zlib, or of gzip. The window is as large as the content, up to the usual 32 KiB.

    `zlib.compress` takes a quarter of a MiB for whatever content, which the allocator then keeps for each thread.
    """
    bits = min(max((len(content) - 1).bit_length(), _SMALLEST), _LARGEST)
    packer = zlib.compressobj(level, zlib.DEFLATED, bits + _GZIP if as_gzip else bits, bits - 7)
    return packer.compress(content) + packer.flush()
