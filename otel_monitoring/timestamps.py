"""Unix time as text (RFC 3339) and as `datetime`, in UTC."""

from datetime import datetime, timezone

_LAST_SECOND = 253_402_300_799.0


def rfc3339(unix_seconds: float) -> str:
    """Unix time in seconds as RFC 3339 in UTC with milliseconds, e.g. `2026-01-31T09:30:00.000+00:00`."""
    return moment_of(unix_seconds).isoformat(timespec="milliseconds")


def moment_of(unix_seconds: float) -> datetime:
    """Unix time in seconds as a `datetime` in UTC; clamped to the years 1970 to 9999, NaN becomes 1970."""
    return datetime.fromtimestamp(min(max(0.0, unix_seconds), _LAST_SECOND), timezone.utc)
