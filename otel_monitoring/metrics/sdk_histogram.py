"""`SdkHistogram`: a histogram of the SDK, for series whose attributes stay the same."""

from collections.abc import Callable, Mapping
from time import time_ns
from typing import Any, Final, NamedTuple, TypeAlias

from opentelemetry import metrics
from opentelemetry.context import Context, get_current

from otel_monitoring import seams
from otel_monitoring.guard import fail_open

Attributes: TypeAlias = Mapping[str, str | int]

_SECOND: Final = 1_000_000_000
_EXEMPLARS_A_SECOND: Final = 50


class _Measurement(NamedTuple):
    """A value, as the SDK's aggregations and exemplars read it."""

    value: float
    time_unix_nano: int
    context: Context | None
    attributes: Attributes


class Place:
    """Where the values of a series go, and which of them may become exemplars.

    The SDK keeps one value of each bucket until the next export: the last one. To offer a value takes longer than to
    add it, so of a series that has hundreds a second not each is offered: the first fifty of a second are, and each one
    that is higher than those. A slow request is never passed over for a fast one.

    Args:
        readers: The readers for which this is so.
        aggregations: The SDK's aggregation for each of them.
    """

    __slots__ = ("_began", "_highest", "_left", "aggregations", "readers")

    def __init__(self, readers: object, aggregations: tuple[Callable[..., None], ...]) -> None:
        self.readers = readers
        self.aggregations = aggregations
        self._began = self._left = 0
        self._highest = 0.0

    def may_offer(self, value: float, now: int) -> bool:
        """Whether `value` may become an exemplar; `now` is in Unix nanoseconds."""
        if not 0 <= now - self._began < _SECOND:  # also where the clock was set back
            self._began, self._left, self._highest = now, _EXEMPLARS_A_SECOND, 0.0
        return self._left > 0 or value > self._highest

    def offered(self, value: float) -> None:
        """Count a value that is offered."""
        self._left -= 1
        if value > self._highest:
            self._highest = value


_measurement: Final = tuple.__new__
_guard: Final = fail_open("recording an exported duration")


class SdkHistogram:
    """Records values of series that are bound to their attributes.

    For each value the SDK cleans, copies, sorts and hashes the attributes, to find the aggregations that add it. Here
    they are looked up once, for as long as the readers are the same: a value takes a quarter of the time.

    Args:
        instrument: Any histogram. One that is not the SDK's, or records in a way of its own, is left to itself.
    """

    def __init__(self, instrument: metrics.Histogram) -> None:
        self._instrument: Any = instrument
        consumer: Any = getattr(instrument, "_measurement_consumer", None)
        self._consumer: Any = consumer if consumer is not None and _records_as_the_sdk(instrument) else None

    def record(
        self, value: float, attributes: Attributes, context: Context | None, place: Place | None
    ) -> Place | None:
        """Add a value, which must be finite.

        Args:
            value: The value.
            attributes: Of the series.
            context: Has the span for an exemplar; None: the current context has.
            place: What the last call for this series returned; None for the first.

        Returns:
            Where the series is.
        """
        consumer = self._consumer
        if place is None or value < 0.0 or place.readers is not consumer._reader_storages:  # noqa: SLF001
            return self._record_and_find(value, attributes, context)
        try:
            if self._instrument._is_enabled():  # noqa: SLF001
                now, sampled = time_ns(), False
                if place.may_offer(value, now):
                    context = context or get_current()
                    sampled = consumer._sdk_config.exemplar_filter.should_sample(value, now, attributes, context)  # noqa: SLF001
                    if sampled:
                        place.offered(value)
                measurement = _measurement(_Measurement, (value, now, context, attributes))
                for aggregate in place.aggregations:
                    aggregate(measurement, sampled)
        except Exception as error:  # noqa: BLE001
            seams.SDK_SERIES.lost(error)
            return None
        else:
            return place

    def _record_and_find(self, value: float, attributes: Attributes, context: Context | None) -> Place | None:
        """Have the SDK add a value; returns where it did, None if it did not tell every reader of before."""
        readers = getattr(self._consumer, "_reader_storages", None)
        with _guard:
            self._instrument.record(value, attributes, context)
        if readers is None or not seams.SDK_SERIES.holds:
            return None
        found: list[Callable[..., None]] = []
        with seams.SDK_SERIES:
            for storage in readers.values():
                for match in storage._get_or_init_view_instrument_match(self._instrument):  # noqa: SLF001
                    aggregation = match._attributes_aggregation.get(_key(match, attributes))  # noqa: SLF001
                    if aggregation is None:
                        return None
                    found.append(aggregation.aggregate)
            return Place(readers, tuple(found))
        return None


def _records_as_the_sdk(instrument: metrics.Histogram) -> bool:
    """Whether nobody wraps or replaces what records: an application may add attributes there, or leave values out."""
    kind = seams.SDK_SERIES.load("opentelemetry.sdk.metrics", "Histogram")
    return kind is not None and getattr(instrument.record, "__func__", None) is kind.record


def _key(match: Any, attributes: Attributes) -> object:
    """Of the series in the SDK's table, by those of its attributes that the view keeps."""
    kept = match._view._attribute_keys  # noqa: SLF001
    hashed = seams.SDK_SERIES.load("opentelemetry.sdk.metrics._internal._view_instrument_match", "_hash_attributes")
    return hashed({key: value for key, value in attributes.items() if kept is None or key in kept})
