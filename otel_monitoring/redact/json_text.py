"""`json_text`: an answer of this package as JSON."""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from otel_monitoring.redact.text import redact, text_of

LARGEST: Final = 2**64
"""Whole numbers from here on are told as texts."""
_LEVELS: Final = 50
_encode = json.JSONEncoder(allow_nan=False).encode


def json_text(answer: object) -> str:
    """An answer of this package as JSON: NaN and infinity become null, values of other types their redacted text."""
    try:
        return _encode(answer)
    except (ValueError, TypeError, RecursionError):
        return _encode(_strict(answer, _LEVELS))


def _strict(answer: object, levels: int) -> Any:
    """`answer` without NaN and infinity, and every value of another type as its redacted text."""
    if answer is None or isinstance(answer, str | bool) or (isinstance(answer, int) and abs(answer) < LARGEST):
        return answer
    if isinstance(answer, float):
        return answer if math.isfinite(answer) else None
    if isinstance(answer, Mapping) and levels:
        return {text_of(key): _strict(value, levels - 1) for key, value in answer.items()}
    if isinstance(answer, list | tuple | set | frozenset) and levels:
        return [_strict(value, levels - 1) for value in answer]
    return redact(answer)
