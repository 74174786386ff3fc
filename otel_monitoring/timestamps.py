"""Times and durations as text: Unix time as RFC 3339 and as `datetime`, in UTC; seconds from a text such as `15m`."""

import re
from datetime import datetime, timezone

LAST_SECOND = 253_402_300_799.0
"""9999-12-31T23:59:59Z in Unix seconds, the last second that `datetime` can hold."""
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(s|m|min|h|d)?")
_SECONDS = {None: 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


def rfc3339(unix_seconds: float) -> str:
    """Unix time in seconds as RFC 3339 in UTC with milliseconds, e.g. `2026-01-31T09:30:00.000+00:00`."""
    return moment_of(unix_seconds).isoformat(timespec="milliseconds")


def moment_of(unix_seconds: float) -> datetime:
    """Unix time in seconds as a `datetime` in UTC; clamped to the years 1970 to 9999, NaN becomes 1970."""
    return datetime.fromtimestamp(min(max(0.0, unix_seconds), LAST_SECOND), timezone.utc)


def seconds_of(text: str) -> float | None:
    """The seconds of a duration such as `90`, `90s`, `15m`, `1.5h` or `7d`; None: the text is no duration."""
    found = _DURATION.fullmatch(text.strip())
    return float(found[1]) * _SECONDS[found[2]] if found is not None else None
