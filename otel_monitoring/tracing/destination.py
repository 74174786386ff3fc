"""`Destination`: where spans, durations and alerts of traced operations go, decided when the service starts.

Functions are decorated at import, before there is a service: each call asks for the current destination.
"""

from collections.abc import Callable, Coroutine
from functools import cache
from typing import Any, Final, TypeAlias

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from otel_monitoring.baggage import BaggageKeys
from otel_monitoring.instrumentation.database_work.recorder import WorkRecorder
from otel_monitoring.metrics.cardinality import BoundedNames
from otel_monitoring.metrics.direct_histogram import DirectHistogram, RecordedHistogram, RecordedSeries
from otel_monitoring.runtime.current_service import PerService
from otel_monitoring.semconv import ERROR_TYPE, OPERATION_DURATIONS, OPERATION_NAME, SCHEMA_URL, SCOPE
from otel_monitoring.telemetry.exception_signal import ExceptionSignal
from otel_monitoring.telemetry.logs_api import LoggerProvider, get_logger_provider
from otel_monitoring.telemetry.meter_providers import other_readers

Submit: TypeAlias = Callable[[Callable[[], Coroutine[Any, Any, object]]], bool]

_MAX_OPERATIONS: Final = 200
_MAX_ERRORS: Final = 100
_MAX_SERIES: Final = 2000


class Destination:
    """The tracer, the histogram and the alert thread of one service's traced operations.

    Args:
        tracer_provider: Makes the tracer.
        meter_provider: Makes the histogram.
        keys: The baggage keys that `carry` stores in documents.
        submit: Has the background thread run the coroutine that its argument makes; returns False if it cannot.
        direct: Returns the aggregator's histogram of a name; by default one that nobody reads.
        logger_provider: Makes the logger of exceptions; None: they are no log events.
        work: Receives what operations do with the database; None: nobody does.

    Attributes:
        tracer: Makes the spans.
        exceptions: Records by what operations failed.
        work: As given.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider,
        meter_provider: MeterProvider,
        keys: BaggageKeys,
        submit: Submit,
        direct: Callable[[str], DirectHistogram] = DirectHistogram,
        *,
        logger_provider: LoggerProvider | None = None,
        work: WorkRecorder | None = None,
    ) -> None:
        self.tracer = tracer_provider.get_tracer(SCOPE, schema_url=SCHEMA_URL)
        self.exceptions = ExceptionSignal(
            logger_provider.get_logger(SCOPE, schema_url=SCHEMA_URL) if logger_provider is not None else None
        )
        self.keys = keys
        self.submit = submit
        self.work = work
        self._operations = BoundedNames(_MAX_OPERATIONS)
        self._errors = BoundedNames(_MAX_ERRORS)
        self._series: dict[tuple[str, str | None], RecordedSeries] = {}
        instrument = OPERATION_DURATIONS.create(meter_provider.get_meter(SCOPE, schema_url=SCHEMA_URL))
        self._durations = RecordedHistogram(direct(OPERATION_DURATIONS.name), instrument, other_readers(meter_provider))

    def durations(self, operation: str, error: str | None) -> RecordedSeries:
        """What records the durations of an operation in seconds.

        Args:
            operation: The operation's name.
            error: The type of the error by which it failed; None: it succeeded.
        """
        return self._series.get((operation, error)) or self._bind(operation, error)

    def _bind(self, operation: str, error: str | None) -> RecordedSeries:
        attributes = {OPERATION_NAME: self._operations(operation)}
        if error is not None:
            attributes[ERROR_TYPE] = self._errors(error)
        series = self._durations.bind(attributes)
        if len(self._series) < _MAX_SERIES:
            self._series[operation, error] = series
        return series


_destinations = PerService[Destination]()


def use(destination: Destination, service: object = None) -> Callable[[], None]:
    """Use `destination` for the traced operations of `service`'s application; the returned function ends that."""
    return _destinations.use(destination, service)


def current_destination() -> Destination:
    """The destination of the current service; without one the first in use, else OpenTelemetry's global providers."""
    return _destinations.of_current() or _destinations.first() or _global_destination()


@cache
def _global_destination() -> Destination:
    # These may be the API's proxies, which use the global providers once they are set.
    tracers, meters, loggers = trace.get_tracer_provider(), metrics.get_meter_provider(), get_logger_provider()
    return Destination(tracers, meters, BaggageKeys(), lambda _: False, logger_provider=loggers)
