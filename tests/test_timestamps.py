"""Times and durations as text."""

import math

import pytest

from otel_monitoring.timestamps import moment_of, rfc3339, seconds_of


@pytest.mark.parametrize(
    ("unix_seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000+00:00"),
        (1_769_851_800.25, "2026-01-31T09:30:00.250+00:00"),
        (-1.0, "1970-01-01T00:00:00.000+00:00"),
        (math.inf, "9999-12-31T23:59:59.000+00:00"),
        (math.nan, "1970-01-01T00:00:00.000+00:00"),
    ],
)
def test_times_are_rfc_3339(unix_seconds: float, text: str) -> None:
    assert rfc3339(unix_seconds) == text
    assert moment_of(unix_seconds).isoformat(timespec="milliseconds") == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("90", 90.0), ("90s", 90.0), ("15m", 900.0), ("15min", 900.0), ("2h", 7200.0), ("7d", 604_800.0)),
        *((" 1.5h ", 5400.0), ("30 m", 1800.0), ("0", 0.0), ("999999999d", 999_999_999 * 86_400.0)),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "m", "-5m", "5 weeks", "1e9", "5m30s", "1.h", ".5h", "٣m", "9" * 10])
def test_what_is_no_duration_is_none(text: str) -> None:
    assert seconds_of(text) is None
