"""Providers for HTTP clients, which a process instruments once: spans and durations go to the current service."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar, cast

from opentelemetry.context import Context
from opentelemetry.metrics import Histogram, Meter, MeterProvider, NoOpHistogram, NoOpMeter
from opentelemetry.trace import NoOpTracer, Span, Tracer, TracerProvider
from opentelemetry.util.types import Attributes

from otel_monitoring.telemetry.schema import OneSchema, http_schema

T = TypeVar("T")


class ServiceProviders:
    """The providers of one service, and the tracers and instruments made from them.

    Args:
        tracers: The tracer provider.
        meters: The meter provider.
    """

    def __init__(self, tracers: TracerProvider, meters: MeterProvider) -> None:
        self.tracers = tracers
        self.meters = meters
        self._made: dict[object, Any] = {}

    def cached(self, key: object, make: Callable[[], T]) -> T:
        """What `make` returned at its first call for `key`."""
        if key not in self._made:
            self._made[key] = make()
        return cast("T", self._made[key])


Current: TypeAlias = Callable[[], ServiceProviders | None]
"""Returns the providers of the current service; None if there is none."""


class PerServiceTracerProvider(TracerProvider):
    """A tracer provider whose tracers are those of the current service.

    Args:
        current: Returns the providers of the current service.
    """

    def __init__(self, current: Current) -> None:
        self._current = current

    def get_tracer(self, *args: Any, **options: Any) -> Tracer:
        """The tracer of an instrumentation scope."""
        return _Tracer(self._current, lambda one: OneSchema(one.tracers).get_tracer(*args, **options))


class _Tracer(Tracer):
    def __init__(self, current: Current, make: Callable[[ServiceProviders], Tracer]) -> None:
        self._current = current
        self._make = make

    def start_span(self, *args: Any, **options: Any) -> Span:
        return self._tracer().start_span(*args, **options)

    def start_as_current_span(self, *args: Any, **options: Any) -> Any:
        return self._tracer().start_as_current_span(*args, **options)

    def _tracer(self) -> Tracer:
        one = self._current()
        return NoOpTracer() if one is None else one.cached(self, lambda: self._make(one))


class PerServiceMeterProvider(MeterProvider):
    """A meter provider whose histograms are those of the current service; other instruments are no-ops.

    Args:
        current: Returns the providers of the current service.
    """

    def __init__(self, current: Current) -> None:
        self._current = current

    def get_meter(
        self, name: str, version: str | None = None, schema_url: str | None = None, attributes: Any = None
    ) -> Meter:
        """The meter of an instrumentation scope."""
        return _Meter(self._current, (name, version, http_schema(schema_url), attributes))


class _Meter(NoOpMeter):
    def __init__(self, current: Current, scope: tuple[Any, ...]) -> None:
        super().__init__(*scope[:3])
        self._current = current
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

        return _Histogram(name, self._current, make)


class _Histogram(NoOpHistogram):
    def __init__(self, name: str, current: Current, make: Callable[[ServiceProviders], Histogram]) -> None:
        super().__init__(name)
        self._current = current
        self._make = make

    def record(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        one = self._current()
        if one is not None:
            one.cached(self, lambda: self._make(one)).record(amount, attributes, context)
