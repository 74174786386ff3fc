"""`RequestMetrics`: durations of requests and the number of active ones, recorded once a request."""

from collections.abc import Collection
from typing import Final

from opentelemetry.metrics import MeterProvider

from otel_monitoring import semconv
from otel_monitoring.metrics.direct_histogram import DirectHistogram, RecordedHistogram, RecordedSeries

Request = tuple[str, str, str | None, str | None, int | None, str | None]
"""Method, URL scheme, protocol version, route, status and error type: what tells series apart, None where absent."""

_NAMES: Final = (
    semconv.HTTP_REQUEST_METHOD,
    semconv.URL_SCHEME,
    semconv.NETWORK_PROTOCOL_VERSION,
    semconv.HTTP_ROUTE,
    semconv.HTTP_RESPONSE_STATUS_CODE,
    semconv.ERROR_TYPE,
)
_MAX_BOUND: Final = 10_000


class RequestMetrics:
    """The metrics of requests; usable in any thread.

    Durations go to the aggregator in any case. The SDK's instruments, which cost more, measure while somebody exports:
    a reader that is added later gets every request from then on.

    Args:
        provider: Makes `http.server.request.duration` and `http.server.active_requests`.
        durations: The aggregator's histogram of request durations.
        readers: Who reads `provider` at the moment; see `other_readers`.
    """

    def __init__(self, provider: MeterProvider, durations: DirectHistogram, readers: Collection[object]) -> None:
        meter = provider.get_meter(semconv.SCOPE, schema_url=semconv.SCHEMA_URL)
        self._durations = RecordedHistogram(durations, semconv.REQUEST_DURATIONS.create(meter), readers)
        self._active = meter.create_up_down_counter(
            semconv.HTTP_SERVER_ACTIVE_REQUESTS, unit="{request}", description="Number of active HTTP server requests."
        )
        self._readers = readers
        self._bound: dict[Request, RecordedSeries] = {}

    def began(self, method: str, scheme: str) -> dict[str, str] | None:
        """Count an active request.

        Returns:
            What `ended` needs; None if nobody exports.
        """
        if not self._readers:
            return None
        attributes = {semconv.URL_SCHEME: scheme, semconv.HTTP_REQUEST_METHOD: method}
        self._active.add(1, attributes)
        return attributes

    def ended(self, active: dict[str, str] | None) -> None:
        """Count a request that `began` counted no more."""
        if active is not None:
            self._active.add(-1, active)

    def series(self, request: Request) -> RecordedSeries:
        """The series of a request."""
        return self._bound.get(request) or self._bind(request)

    def _bind(self, request: Request) -> RecordedSeries:
        # A status may be an IntEnum.
        values = (int(value) if isinstance(value, int) else value for value in request)
        attributes = {name: value for name, value in zip(_NAMES, values, strict=True) if value is not None}
        series = self._durations.bind(attributes)
        if len(self._bound) < _MAX_BOUND:
            self._bound[request] = series
        return series
