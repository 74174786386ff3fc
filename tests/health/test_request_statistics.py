"""Counts of requests and errors in a window."""

from otel_monitoring.health.request_statistics import RequestStatistics
from otel_monitoring.metrics.reader import SnapshotReader
from otel_monitoring.metrics.snapshot import AttributeValue
from otel_monitoring.metrics.window import History
from otel_monitoring.semconv import HTTP_RESPONSE_STATUS_CODE, HTTP_ROUTE, HTTP_SERVER_REQUEST_DURATION


def test_errors_are_counted_alike_before_and_after_the_routes() -> None:
    reader, history = SnapshotReader(0.0), History(0.0, span=300.0, resolution=10.0)
    for route in ("/orders", "/dishes", None):
        for status in (200, 404, 500):
            attributes: dict[str, AttributeValue] = {HTTP_RESPONSE_STATUS_CODE: status}
            attributes |= {HTTP_ROUTE: route} if route else {}
            reader.direct(HTTP_SERVER_REQUEST_DURATION).bind(attributes).record(0.1)
    history.add(reader.take(10.0))
    first, second = RequestStatistics(), RequestStatistics()
    second.endpoints(history.total, history.recent)
    assert first.errors(history.recent) == second.errors(history.recent) == (9, 3)
