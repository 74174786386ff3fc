"""`Destination`: where the spans, durations and alerts of traced operations go, which a process decides when it starts.

Functions are decorated at import, long before: they ask for the destination each time they run.
"""

from collections.abc import Callable, Coroutine
from functools import cache
from typing import Any, Final, TypeAlias

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from otel_monitoring.baggage import BaggageKeys
from otel_monitoring.metrics.cardinality import BoundedNames
from otel_monitoring.runtime.current_service import PerService
from otel_monitoring.semconv import OPERATION_DURATIONS, SCHEMA_URL, SCOPE

Submit: TypeAlias = Callable[[Callable[[], Coroutine[Any, Any, object]]], bool]

_MAX_OPERATIONS: Final = 200
_MAX_ERRORS: Final = 100


class Destination:
    """Providers and what else a traced operation needs.

    Args:
        tracer_provider: Where spans go.
        meter_provider: Where durations go.
        keys: Which baggage a stored context takes along.
        submit: Runs the coroutine that its argument makes, away from the caller; False when it cannot.

    Attributes:
        tracer: Makes the spans.
        record: Records a duration in seconds.
        operations: Bounds the names of operations among the attributes of durations.
        errors: Bounds the types of errors there.
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
        self.record = OPERATION_DURATIONS.create(meter).record
        self.keys = keys
        self.submit = submit
        self.operations = BoundedNames(_MAX_OPERATIONS)
        self.errors = BoundedNames(_MAX_ERRORS)


_destinations = PerService[Destination]()


def use(destination: Destination, service: object = None) -> Callable[[], None]:
    """Let traced operations of `service`'s application use `destination` from now on; returns the undo."""
    return _destinations.use(destination, service)


def current_destination() -> Destination:
    """The destination of the application that is running, or the first one in use: see `get_monitoring`.

    While none is in use, OpenTelemetry's global providers.
    """
    return _destinations.of_current() or _destinations.first() or _global_destination()


@cache
def _global_destination() -> Destination:
    # The API's proxies: whoever sets the providers later is used from then on.
    return Destination(trace.get_tracer_provider(), metrics.get_meter_provider(), BaggageKeys(), lambda _: False)
