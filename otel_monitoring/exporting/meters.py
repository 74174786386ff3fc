"""`Meters`: the SDK's meter provider, with observable instruments whose callbacks can end no collection."""

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import MeterProvider

from otel_monitoring.guard import as_exception

_OBSERVABLE = ("create_observable_counter", "create_observable_gauge", "create_observable_up_down_counter")


class Meters(MeterProvider):
    """The SDK survives an `Exception` of a callback and logs it; here it meets no other `BaseException`.

    `SystemExit`, `KeyboardInterrupt` or a cancellation would end the collection for every other instrument, and the
    thread that exports.
    """

    def get_meter(self, name: str, *args: Any, **kwargs: Any) -> Meter:
        """A meter of that scope; see `opentelemetry.metrics.MeterProvider`."""
        meter = super().get_meter(name, *args, **kwargs)
        for method in _OBSERVABLE:
            if method not in vars(meter):
                setattr(meter, method, _containing(getattr(meter, method)))
        return meter


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
