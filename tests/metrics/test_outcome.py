"""What counts as an error, a client's error, a disconnect."""

import pytest

from otel_monitoring.metrics.outcome import OutcomeClassifier, RequestOutcome
from otel_monitoring.metrics.snapshot import Series
from otel_monitoring.semconv import HTTP_SERVER_REQUEST_DURATION


def series(**attributes: str | int) -> Series:
    names = {"status": "http.response.status_code", "error": "error.type", "route": "http.route"}
    return Series(HTTP_SERVER_REQUEST_DURATION, tuple((names[key], value) for key, value in attributes.items()))


@pytest.mark.parametrize(
    ("recorded", "outcome"),
    [
        (series(status=200), RequestOutcome.SUCCESS),
        (series(status=302), RequestOutcome.SUCCESS),
        (series(status=404), RequestOutcome.CLIENT_ERROR),
        (series(status=503, error="503"), RequestOutcome.ERROR),
        (series(status=500, error="ValueError"), RequestOutcome.ERROR),
        (series(status=200, error="ValueError"), RequestOutcome.ERROR),
        (series(error="RuntimeError"), RequestOutcome.ERROR),
        (series(error="ConnectionError"), RequestOutcome.CLIENT_DISCONNECT),
        (series(status=200, error="ConnectionError"), RequestOutcome.CLIENT_DISCONNECT),
        (series(status=500, error="ConnectionError"), RequestOutcome.ERROR),
    ],
)
def test_outcomes(recorded: Series, outcome: RequestOutcome) -> None:
    assert OutcomeClassifier()(recorded) is outcome


def test_chosen_statuses_replace_every_5xx() -> None:
    classify = OutcomeClassifier(frozenset({429, 500}))
    assert classify(series(status=429)) is RequestOutcome.ERROR
    assert classify(series(status=503, error="503")) is RequestOutcome.SUCCESS
    assert classify(series(status=503, error="ValueError")) is RequestOutcome.ERROR
