"""`Meters`: the SDK's meter provider, with observable instruments whose callbacks can end no collection."""

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Meter, NoOpMeter, Observation
from opentelemetry.sdk.metrics import MeterProvider

from otel_monitoring import seams
from otel_monitoring.guard import as_exception

_FASTAPI = "fastapi"
_OBSERVABLE = ("create_observable_counter", "create_observable_gauge", "create_observable_up_down_counter")


class Meters(MeterProvider):
    """The SDK survives an `Exception` of a callback and logs it; here it meets no other `BaseException`.

    `SystemExit`, `KeyboardInterrupt` or a cancellation would end the collection for every other instrument, and the
    thread that exports.

    It is the global provider, too: of that, FastAPI (>= 0.142) asks a meter for every application of the process.
    Requests to those that no service instruments are none of this service's; `Requests` are.
    """

    def get_meter(self, name: str, *args: Any, **kwargs: Any) -> Meter:
        """A meter of that scope; see `opentelemetry.metrics.MeterProvider`."""
        # Where FastAPI cannot be told which provider an application has, it asks this one for ours as well.
        if name == _FASTAPI and seams.FASTAPI_OPTIONS.holds:
            return NoOpMeter(name)
        return self.any_meter(name, *args, **kwargs)

    def any_meter(self, name: str, *args: Any, **kwargs: Any) -> Meter:
        """A meter of that scope, also of FastAPI's."""
        meter = super().get_meter(name, *args, **kwargs)
        for method in _OBSERVABLE:
            if method not in vars(meter):
                setattr(meter, method, _containing(getattr(meter, method)))
        return meter


class Requests(metrics.MeterProvider):
    """A view on `Meters` for an application that is instrumented.

    Args:
        meters: Where its requests are measured.
    """

    def __init__(self, meters: Meters) -> None:
        self._meters = meters

    def get_meter(self, name: str, *args: Any, **kwargs: Any) -> Meter:
        """A meter of that scope."""
        return self._meters.any_meter(name, *args, **kwargs)


def _containing(create: Callable[..., object]) -> Callable[..., object]:
    @wraps(create)
    def created(name: str, callbacks: Sequence[Any] | None = None, *args: Any, **kwargs: Any) -> object:
        contained = [_contained(one) if callable(one) else one for one in callbacks or ()]
        return create(name, contained, *args, **kwargs)

    return created


def _contained(callback: Callable[[CallbackOptions], Iterable[Observation]]) -> Callable[[CallbackOptions], Any]:
    @wraps(callback, updated=())
    def observe(options: CallbackOptions) -> list[Observation]:
        try:
            return list(callback(options))
        except Exception:
            raise
        except BaseException as error:
            raise as_exception(error) from error

    return observe
