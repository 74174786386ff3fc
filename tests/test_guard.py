"""Our failures stop at the guard; what is not ours passes."""

import asyncio
import logging

import pytest

from otel_monitoring.guard import contained


def test_failures_stay_inside_are_counted_and_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    guard = contained("a tick")
    for _ in range(5):
        with guard:
            raise ValueError("broken")
    assert contained.failures == {"a tick": 5}
    assert [r.getMessage() for r in caplog.records] == ["a tick failed: ValueError"]
    with contained("another"):
        raise KeyError("x")
    assert len(caplog.records) == 2
    assert all(r.levelno == logging.WARNING for r in caplog.records)


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
def test_cancellation_and_exit_pass_through(error: type[BaseException]) -> None:
    with pytest.raises(error), contained("a tick"):
        raise error
    assert not contained.failures
