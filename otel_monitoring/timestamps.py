"""Moments as text: RFC 3339, in UTC."""

from datetime import datetime, timezone

_LAST_SECOND = 253_402_300_799.0


def rfc3339(unix_seconds: float) -> str:
    """A moment as RFC 3339 in UTC, to the millisecond."""
    return moment_of(unix_seconds).isoformat(timespec="milliseconds")


def moment_of(unix_seconds: float) -> datetime:
    """A moment in UTC; what is before 1970, after 9999 or no number becomes the nearest end, so that it can be told."""
    return datetime.fromtimestamp(min(max(0.0, unix_seconds), _LAST_SECOND), timezone.utc)
