"""ServiceProviders for what a process instruments once: each span and duration goes to the service whose it is."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar, cast

from opentelemetry.context import Context
from opentelemetry.metrics import Histogram, Meter, MeterProvider, NoOpHistogram, NoOpMeter
from opentelemetry.trace import NoOpTracer, Span, Tracer, TracerProvider
from opentelemetry.util.types import Attributes

T = TypeVar("T")


class ServiceProviders:
    """Those of one service.

    Args:
        tracers: Where spans go.
        meters: Where durations go.
    """

    def __init__(self, tracers: TracerProvider, meters: MeterProvider) -> None:
        self.tracers = tracers
        self.meters = meters
        self._made: dict[object, Any] = {}

    def made(self, key: object, make: Callable[[], T]) -> T:
        """What `make` makes, once for each key."""
        if key not in self._made:
            self._made[key] = make()
        return cast("T", self._made[key])


Running: TypeAlias = Callable[[], ServiceProviders | None]


class PerServiceTracerProvider(TracerProvider):
    """Makes tracers that are those of the service whose application is running.

    Args:
        running: Answers those of that service.
    """

    def __init__(self, running: Running) -> None:
        self._running = running

    def get_tracer(self, *args: Any, **options: Any) -> Tracer:
        """A tracer of that scope."""
        return _Tracer(self._running, lambda one: one.tracers.get_tracer(*args, **options))


class _Tracer(Tracer):
    def __init__(self, running: Running, make: Callable[[ServiceProviders], Tracer]) -> None:
        self._running = running
        self._make = make

    def start_span(self, *args: Any, **options: Any) -> Span:
        return self._tracer().start_span(*args, **options)

    def start_as_current_span(self, *args: Any, **options: Any) -> Any:
        return self._tracer().start_as_current_span(*args, **options)

    def _tracer(self) -> Tracer:
        one = self._running()
        return NoOpTracer() if one is None else one.made(self, lambda: self._make(one))


class PerServiceMeterProvider(MeterProvider):
    """Makes meters whose histograms are those of the service whose application is running, and which have no others.

    Args:
        running: Answers those of that service.
    """

    def __init__(self, running: Running) -> None:
        self._running = running

    def get_meter(
        self, name: str, version: str | None = None, schema_url: str | None = None, attributes: Any = None
    ) -> Meter:
        """A meter of that scope."""
        return _Meter(self._running, (name, version, schema_url, attributes))


class _Meter(NoOpMeter):
    def __init__(self, running: Running, scope: tuple[Any, ...]) -> None:
        super().__init__(*scope[:3])
        self._running = running
        self._scope = scope

    def create_histogram(
        self,
        name: str,
        unit: str = "",
        description: str = "",
        *,
        explicit_bucket_boundaries_advisory: Sequence[float] | None = None,
    ) -> Histogram:
        def make(one: ServiceProviders) -> Histogram:
            return one.meters.get_meter(*self._scope).create_histogram(
                name, unit, description, explicit_bucket_boundaries_advisory=explicit_bucket_boundaries_advisory
            )

        return _Histogram(name, self._running, make)


class _Histogram(NoOpHistogram):
    def __init__(self, name: str, running: Running, make: Callable[[ServiceProviders], Histogram]) -> None:
        super().__init__(name)
        self._running = running
        self._make = make

    def record(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        one = self._running()
        if one is not None:
            one.made(self, lambda: self._make(one)).record(amount, attributes, context)
