"""Suggestions for a wrong setting: the name or the number that was probably meant."""

import re
from collections.abc import Iterable
from typing import Literal

from otel_monitoring.redact.lazy_pattern import LazyPattern

Unit = Literal["seconds", "milliseconds", "percent", ""]

_AMOUNT = LazyPattern(r"\s*(\d+(?:[.,]\d+)?)\s*([a-z%]*)\s*", re.IGNORECASE)
_SECONDS = {
    **dict.fromkeys(("ms", "msec", "millis", "milliseconds"), 0.001),
    **dict.fromkeys(("", "s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86_400.0),
}


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """`; did you mean …?` with the known name closest to `given`, or an empty text where none is close.

    A single name that continues `given` wins: `repeat` means `repeat_interval`.
    """
    names = sorted(known)
    longer = [name for name in names if name.startswith(f"{given}_")]
    if len(longer) == 1:
        return f"; did you mean {longer[0]}?"
    from difflib import get_close_matches  # most services make no mistake

    # Compared without the prefix that all have in common, which would make every name look close.
    first, last = min(given, *names), max(given, *names)
    prefix = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    close = get_close_matches(given[prefix:], [name[prefix:] for name in names], 1, 0.75)
    return f"; did you mean {given[:prefix]}{close[0]}?" if close else ""


def number_meant(given: object, unit: Unit) -> str:
    """`; did you mean …?` with the number for a text with a unit: 300 for `5m` where the setting is in seconds.

    Args:
        given: The value that is no number. It may be a secret and is not repeated.
        unit: What the setting counts; empty where it is something without a unit, as requests.

    Returns:
        An empty text where no number can be meant.
    """
    found = _AMOUNT.fullmatch(given.strip("\"' ")) if isinstance(given, str) else None
    if found is None:
        return ""
    amount, named = float(found.group(1).replace(",", ".")), found.group(2).lower()
    if unit not in ("seconds", "milliseconds"):
        return f"; did you mean {amount:g}?" if named in ("", "%" if unit else "") else ""
    if named not in _SECONDS:
        return ""
    scale = 1.0 if not named else _SECONDS[named] * (1000 if unit == "milliseconds" else 1)
    return f", in {unit}; did you mean {amount * scale:g}?"
