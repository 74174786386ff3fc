"""`Retry-After`, in both of its forms."""

from datetime import datetime, timezone

import pytest

from otel_monitoring.alerts.notify.channels.http_post import retry_after

NOW = datetime(2026, 5, 28, 20, 26, 40, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("30", 30),
        (" 30 ", 30),
        ("999999999999", 86_400),
        ("Thu, 28 May 2026 20:27:40 GMT", 60),
        ("Thu, 28 May 2026 20:27:40 -0000", 60),
        ("Thu, 28 May 2026 20:00:00 GMT", 0),
        ("Thu, 28 May 2099 20:00:00 GMT", 86_400),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1e9", None),
        ("٣", None),
        ("Thu, 99 May 2026 20:27:40 GMT", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert retry_after(value, NOW) == seconds
