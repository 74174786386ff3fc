"""`RequestMetrics`: durations of requests and the number of active ones, recorded once a request."""

from collections.abc import Collection
from typing import Final
from weakref import WeakKeyDictionary

from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from otel_monitoring import semconv
from otel_monitoring.forks import renewed
from otel_monitoring.metrics.direct_histogram import DirectHistogram, RecordedHistogram, RecordedSeries
from otel_monitoring.metrics.slow_requests import SlowRequests

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


class _ActiveRequests:
    """`http.server.active_requests`: counted when it is read; a request costs its place in a set."""

    def __init__(self) -> None:
        self._active: dict[tuple[str, str], set[object]] = renewed(self, "_active", dict)

    @classmethod
    def observed_by(cls, provider: MeterProvider) -> "_ActiveRequests":
        """The active requests that `provider` counts: one count for all services that measure with it."""
        active = _observed.get(provider)
        if active is None:
            active = _observed[provider] = cls()
            meter = provider.get_meter(semconv.SCOPE, schema_url=semconv.SCHEMA_URL)
            meter.create_observable_up_down_counter(
                semconv.HTTP_SERVER_ACTIVE_REQUESTS,
                [active._observe],
                unit="{request}",
                description="Number of active HTTP server requests.",
            )
        return active

    def of(self, method: str, scheme: str) -> set[object]:
        found = self._active.get((method, scheme))
        return self._active.setdefault((method, scheme), set()) if found is None else found

    def _observe(self, _: CallbackOptions) -> list[Observation]:
        return [
            Observation(len(active), {semconv.HTTP_REQUEST_METHOD: method, semconv.URL_SCHEME: scheme})
            for (method, scheme), active in list(self._active.items())
        ]


_observed: "WeakKeyDictionary[MeterProvider, _ActiveRequests]" = WeakKeyDictionary()


class RequestMetrics:
    """The metrics of requests; usable in any thread.

    Durations go to the aggregator in any case, and to the SDK's histogram, which costs more, while somebody exports: a
    reader that is added later gets every request from then on.

    Args:
        provider: Makes `http.server.request.duration` and `http.server.active_requests`.
        durations: The aggregator's histogram of request durations.
        readers: Who reads `provider` at the moment; see `other_readers`. None: nobody is to read these metrics.
        slow: Where the slowest traced requests are remembered; None: nowhere.
    """

    def __init__(
        self,
        provider: MeterProvider,
        durations: DirectHistogram,
        readers: Collection[object] | None,
        slow: SlowRequests | None = None,
    ) -> None:
        meter = provider.get_meter(semconv.SCOPE, schema_url=semconv.SCHEMA_URL)
        exported = () if readers is None else readers
        self._durations = RecordedHistogram(durations, semconv.REQUEST_DURATIONS.create(meter), exported)
        self._active = _ActiveRequests() if readers is None else _ActiveRequests.observed_by(provider)
        self._bound: dict[Request, RecordedSeries] = {}
        self._slow = slow

    def active(self, method: str, scheme: str) -> set[object]:
        """The set in which a request is while it is active."""
        return self._active.of(method, scheme)

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
            series.slowest = self._slow.of(attributes) if self._slow is not None else None
        return series
