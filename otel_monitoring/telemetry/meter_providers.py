"""Meter providers: ours, its view for instrumented applications, and a view that measures histograms alone."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from opentelemetry import metrics
from opentelemetry.metrics import Histogram, Meter, NoOpMeter
from opentelemetry.sdk.metrics import MeterProvider

from otel_monitoring import seams
from otel_monitoring.semconv import SCOPE
from otel_monitoring.telemetry.observable_callbacks import PatientCallback, guarded

_FASTAPI = "fastapi"
_OBSERVABLE = ("create_observable_counter", "create_observable_gauge", "create_observable_up_down_counter")


class GuardedMeterProvider(MeterProvider):
    """The SDK's meter provider, guarded against callbacks of observable instruments.

    The SDK catches and logs an `Exception` of a callback. `SystemExit`, `KeyboardInterrupt` or a cancellation would end
    the collection for every other instrument, and the exporting thread; here they become an `Exception`. For
    callbacks that hang see `PatientCallback`.

    It is also the global provider, which FastAPI (>= 0.142) asks for the meter of every application in the process. An
    application that no service instruments gets a no-op meter; `RequestMeterProvider` is for those that are
    instrumented.
    """

    def get_meter(self, name: str, *args: Any, **kwargs: Any) -> Meter:
        """The meter of an instrumentation scope; a no-op for FastAPI's scope."""
        # Where the options of FastAPI's telemetry cannot be set, instrumented applications ask here, too.
        if name == _FASTAPI and seams.FASTAPI_OPTIONS.holds:
            return NoOpMeter(name)
        return self.any_meter(name, *args, **kwargs)

    def any_meter(self, name: str, *args: Any, **kwargs: Any) -> Meter:
        """The meter of an instrumentation scope, FastAPI's included."""
        meter = super().get_meter(name, *args, **kwargs)
        for method in _OBSERVABLE:
            if method not in vars(meter):
                guard = guarded if name == SCOPE else PatientCallback  # this package's callbacks only read kept values
                setattr(meter, method, _guarding(getattr(meter, method), guard))
        return meter


class RequestMeterProvider(metrics.MeterProvider):
    """A view on a `GuardedMeterProvider` for an instrumented application: FastAPI's scope measures.

    Args:
        meters: The provider whose meters it returns.
    """

    def __init__(self, meters: GuardedMeterProvider) -> None:
        self._meters = meters

    def get_meter(self, name: str, *args: Any, **kwargs: Any) -> Meter:
        """The meter of an instrumentation scope."""
        return self._meters.any_meter(name, *args, **kwargs)


class HistogramMeterProvider(metrics.MeterProvider):
    """A view on a meter provider for when metrics are not exported: histograms measure, other instruments are no-ops.

    The aggregator answers from histograms alone. FastAPI also counts active requests, which costs the SDK work for each
    request, even where every reader drops the result.

    Args:
        provider: Where the histograms are made.
    """

    def __init__(self, provider: metrics.MeterProvider) -> None:
        self._provider = provider

    def get_meter(
        self, name: str, version: str | None = None, schema_url: str | None = None, attributes: Any = None
    ) -> Meter:
        """The meter of an instrumentation scope."""
        return _HistogramMeter(
            name, version, schema_url, self._provider.get_meter(name, version, schema_url, attributes)
        )


class _HistogramMeter(NoOpMeter):
    def __init__(self, name: str, version: str | None, schema_url: str | None, meter: Meter) -> None:
        super().__init__(name, version, schema_url)
        self._meter = meter

    def create_histogram(
        self,
        name: str,
        unit: str = "",
        description: str = "",
        *,
        explicit_bucket_boundaries_advisory: Sequence[float] | None = None,
    ) -> Histogram:
        return self._meter.create_histogram(
            name, unit, description, explicit_bucket_boundaries_advisory=explicit_bucket_boundaries_advisory
        )


def _guarding(create: Callable[..., object], guard: Callable[[Any], object]) -> Callable[..., object]:
    @wraps(create)
    def created(name: str, callbacks: Sequence[Any] | None = None, *args: Any, **kwargs: Any) -> object:
        return create(name, [guard(one) for one in callbacks or ()], *args, **kwargs)

    return created
