"""`Destination`: where spans, durations and alerts of traced operations go, decided when the service starts.

Functions are decorated at import, before there is a service: each call asks for the current destination.
"""

from collections.abc import Callable, Coroutine
from functools import cache
from typing import Any, Final, TypeAlias

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider, NoOpHistogram
from opentelemetry.trace import TracerProvider

from otel_monitoring.baggage import BaggageKeys
from otel_monitoring.metrics.cardinality import BoundedNames
from otel_monitoring.runtime.current_service import PerService
from otel_monitoring.semconv import OPERATION_DURATIONS, SCHEMA_URL, SCOPE

Submit: TypeAlias = Callable[[Callable[[], Coroutine[Any, Any, object]]], bool]

_MAX_OPERATIONS: Final = 200
_MAX_ERRORS: Final = 100


class Destination:
    """The tracer, the histogram and the alert thread of one service's traced operations.

    Args:
        tracer_provider: Makes the tracer.
        meter_provider: Makes the histogram.
        keys: The baggage keys that `carry` stores in documents.
        submit: Has the background thread run the coroutine that its argument makes; returns False if it cannot.

    Attributes:
        tracer: Makes the spans.
        record: Records a duration in seconds; None: durations are not recorded.
        operations: Limits the distinct operation names among the attributes of durations.
        errors: Limits the distinct error types among them.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider,
        meter_provider: MeterProvider,
        keys: BaggageKeys,
        submit: Submit,
    ) -> None:
        self.tracer = tracer_provider.get_tracer(SCOPE, schema_url=SCHEMA_URL)
        meter = meter_provider.get_meter(SCOPE, schema_url=SCHEMA_URL)
        durations = OPERATION_DURATIONS.create(meter)
        self.record = None if type(durations) is NoOpHistogram else durations.record
        self.keys = keys
        self.submit = submit
        self.operations = BoundedNames(_MAX_OPERATIONS)
        self.errors = BoundedNames(_MAX_ERRORS)


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
    return Destination(trace.get_tracer_provider(), metrics.get_meter_provider(), BaggageKeys(), lambda _: False)
