"""`WorkMetrics`: how many commands requests and operations send, and how long these take."""

from collections.abc import Callable
from typing import Final

from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider

from otel_monitoring import semconv
from otel_monitoring.metrics.direct_histogram import DirectHistogram, RecordedHistogram, RecordedSeries
from otel_monitoring.telemetry.meter_providers import other_readers

_MAX_BOUND: Final = 10_000
Attributes = tuple[tuple[str, str], ...]


class WorkMetrics:
    """The four histograms, recorded once for a request or an operation that has sent commands.

    Args:
        provider: Makes the instruments.
        direct: Returns the aggregator's histogram of a name.
    """

    def __init__(self, provider: MeterProvider, direct: Callable[[str], DirectHistogram] = DirectHistogram) -> None:
        meter, readers = provider.get_meter(semconv.SCOPE, schema_url=semconv.SCHEMA_URL), other_readers(provider)

        def pair(*of: semconv.Durations) -> list[RecordedHistogram]:
            return [RecordedHistogram(direct(one.name), one.create(meter), readers) for one in of]

        self._requests = pair(semconv.COMMANDS_OF_REQUESTS, semconv.DATABASE_TIMES_OF_REQUESTS)
        self._operations = pair(semconv.COMMANDS_OF_OPERATIONS, semconv.DATABASE_TIMES_OF_OPERATIONS)
        self._bound: dict[tuple[str | None, ...], list[RecordedSeries]] = {}

    def request(
        self, method: str, route: str | None, commands: int, seconds: float, context: Context | None = None
    ) -> None:
        """Record a request.

        Args:
            method: The request's method.
            route: Its route; None: its path matched none.
            commands: How many commands it sent.
            seconds: How long at least one of them was under way.
            context: Has the span for an exemplar; None: the current context.
        """
        key = method, route
        series = self._bound.get(key)
        if series is None:
            attributes = {semconv.HTTP_REQUEST_METHOD: method}
            series = self._bind(
                key, self._requests, attributes if route is None else {**attributes, semconv.HTTP_ROUTE: route}
            )
        series[0].record(commands, context)
        series[1].record(seconds, context)

    def operation(self, name: str, commands: int, seconds: float) -> None:
        """Record a run of an operation; for the arguments see `request`."""
        series = self._bound.get((name,)) or self._bind((name,), self._operations, {semconv.OPERATION_NAME: name})
        series[0].record(commands)
        series[1].record(seconds)

    def _bind(
        self, key: tuple[str | None, ...], histograms: list[RecordedHistogram], attributes: dict[str, str]
    ) -> list[RecordedSeries]:
        series = [histogram.bind(attributes) for histogram in histograms]
        if len(self._bound) < _MAX_BOUND:
            self._bound[key] = series
        return series
