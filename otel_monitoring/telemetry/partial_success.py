"""`note_rejected`: what the answer to an OTLP export says was not taken, though its status is 200.

Source: https://opentelemetry.io/docs/specs/otlp/#partial-success-1. The answers to all signals have the same fields:
`partial_success` (1) with a number of rejected items (1) and a message (2). They are read by hand: the SDK's exporters
leave them aside, and each signal has a class of its own.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from otel_monitoring.telemetry.export_state import ExportState, export_in_progress

_PARTIAL_SUCCESS: Final = 1
_REJECTED: Final = 1
_MESSAGE: Final = 2
_MOST_BITS: Final = 63
_VARINT: Final = 0
_BYTES: Final = 2


def note_rejected(answer: bytes) -> None:
    """Have the export in progress in this thread know how many of its items the server has rejected, and why.

    Args:
        answer: The body of the server's answer, in protobuf. One that is no such answer tells nothing.
    """
    state: ExportState | None = getattr(export_in_progress, "state", None)
    if state is None:
        return
    with suppress(IndexError, ValueError):
        found = dict(_fields(bytes(dict(_fields(answer)).get(_PARTIAL_SUCCESS, b""))))
        count, message = found.get(_REJECTED, 0), found.get(_MESSAGE, b"")
        if isinstance(count, int) and count > 0:
            text = message.decode("utf-8", "replace") if isinstance(message, bytes) else ""
            state.explain(f"the server rejected {count}: {text}" if text else f"the server rejected {count}")
            export_in_progress.rejected = count


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The numbers of the fields of a protobuf message, with numbers and bytes as their values.

    Raises:
        IndexError: It ends too early.
        ValueError: It has something else, of which these messages have none.
    """
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        value, place = _varint(message, place)
        if key & 7 == _VARINT:
            yield key >> 3, value
        elif key & 7 == _BYTES and place + value <= len(message):
            yield key >> 3, message[place : place + value]
            place += value
        else:
            raise ValueError("it is no answer of OTLP")


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while message[place] & 0x80:
        if shift > _MOST_BITS:
            raise ValueError("it is no number of protobuf")
        value |= (message[place] & 0x7F) << shift
        place, shift = place + 1, shift + 7
    return value | message[place] << shift, place + 1
