"""What was probably meant by a setting that cannot work."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

_AMOUNT = re.compile(r"\s*(\d+(?:[.,]\d+)?)\s*([a-z%]*)\s*", re.IGNORECASE)
_SECONDS = {
    **dict.fromkeys(("ms", "msec", "millis", "milliseconds"), 0.001),
    **dict.fromkeys(("", "s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86_400.0),
}


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """`; did you mean …?` for the name that is closest to `given`, or nothing where none is close.

    A name that `given` begins, e.g. without its unit, comes first.
    """
    names = sorted(known)
    longer = [name for name in names if name.startswith(f"{given}_")]
    if len(longer) == 1:
        return f"; did you mean {longer[0]}?"
    # What all begin with makes none of them closer.
    first, last = min(given, *names), max(given, *names)
    alike = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    close = get_close_matches(given[alike:], [name[alike:] for name in names], 1, 0.75)
    return f"; did you mean {given[:alike]}{close[0]}?" if close else ""


def number_meant(given: object, name: str) -> str:
    """`; did you mean …?` for a number with a unit: `5m` is 300 where `name` is a number of seconds.

    Args:
        given: What cannot be read as a number. It is not repeated.
        name: The setting; one that ends in `_ms` is in milliseconds, one in `_percent` a percentage.
    """
    found = _AMOUNT.fullmatch(given.strip("\"' ")) if isinstance(given, str) else None
    if found is None:
        return ""
    amount, unit = float(found.group(1).replace(",", ".")), found.group(2).lower()
    if name.lower().endswith("_percent"):
        return f"; did you mean {amount:g}?" if unit in ("", "%") else ""
    if unit not in _SECONDS:
        return ""
    milliseconds = name.lower().endswith("_ms")
    scale = 1.0 if not unit else _SECONDS[unit] * (1000 if milliseconds else 1)
    return f", in {'milliseconds' if milliseconds else 'seconds'}; did you mean {amount * scale:g}?"
