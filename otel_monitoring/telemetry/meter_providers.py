"""`GuardedMeterProvider`: our meter provider; `other_readers`: who reads a meter provider."""

from collections.abc import Callable, Collection, Sequence
from functools import wraps
from typing import Any

from opentelemetry import metrics
from opentelemetry.metrics import Meter, NoOpMeter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader

from otel_monitoring.semconv import SCOPE
from otel_monitoring.telemetry.observable_callbacks import PatientCallback, guarded

_FASTAPI = "fastapi"
_KEPT_VALUES = frozenset({SCOPE, "opentelemetry-sdk"})
"""Scopes whose callbacks only read kept values: this package's, and the SDK's about itself."""
_OBSERVABLE = ("create_observable_counter", "create_observable_gauge", "create_observable_up_down_counter")


class GuardedMeterProvider(MeterProvider):
    """The SDK's meter provider, guarded against callbacks of observable instruments.

    The SDK catches and logs an `Exception` of a callback. `SystemExit`, `KeyboardInterrupt` or a cancellation would end
    the collection for every other instrument, and the exporting thread; here they become an `Exception`. For
    callbacks that hang see `PatientCallback`.

    It is also the global provider, which FastAPI (>= 0.142) asks for the meter of every application in the process: a
    no-op, because instrumented applications are measured by this package, and the others are not the service's.

    Attributes:
        exporting: The readers other than the aggregator's, also those that the application has added.
    """

    def __init__(self, metric_readers: Sequence[MetricReader] = (), *args: Any, **kwargs: Any) -> None:
        super().__init__(metric_readers, *args, **kwargs)
        self.exporting: set[object] = {reader for reader in metric_readers if _exports(reader)}

    def add_metric_reader(self, metric_reader: MetricReader) -> None:
        """Add a reader; from now on it reads every measurement."""
        super().add_metric_reader(metric_reader)
        if _exports(metric_reader):
            self.exporting.add(metric_reader)

    def remove_metric_reader(self, metric_reader: MetricReader) -> None:
        """Remove a reader."""
        super().remove_metric_reader(metric_reader)
        self.exporting.discard(metric_reader)

    def get_meter(self, name: str, *args: Any, **kwargs: Any) -> Meter:
        """The meter of an instrumentation scope; a no-op for FastAPI's scope."""
        if name == _FASTAPI:
            return NoOpMeter(name)
        meter = super().get_meter(name, *args, **kwargs)
        for method in _OBSERVABLE:
            if method not in vars(meter):
                guard = guarded if name in _KEPT_VALUES else PatientCallback
                setattr(meter, method, _guarding(getattr(meter, method), guard))
        return meter


def other_readers(provider: metrics.MeterProvider) -> Collection[object]:
    """Who reads `provider` besides the aggregator; the result changes as readers come and go."""
    if isinstance(provider, GuardedMeterProvider):
        return provider.exporting
    # Nobody knows the readers of a provider that is the application's.
    return () if isinstance(provider, metrics.NoOpMeterProvider) else ("the application's",)


def _exports(reader: MetricReader) -> bool:
    """Whether what `reader` reads leaves the process: that of the aggregator says that it does not."""
    return bool(getattr(reader, "exports", True))


def _guarding(create: Callable[..., object], guard: Callable[[Any], object]) -> Callable[..., object]:
    @wraps(create)
    def created(name: str, callbacks: Sequence[Any] | None = None, *args: Any, **kwargs: Any) -> object:
        return create(name, [guard(one) for one in callbacks or ()], *args, **kwargs)

    return created
