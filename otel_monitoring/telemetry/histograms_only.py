"""`HistogramsOnly`: a view on a meter provider for when nobody but the aggregator reads what is measured."""

from collections.abc import Sequence
from typing import Any

from opentelemetry.metrics import Histogram, Meter, MeterProvider, NoOpMeter


class HistogramsOnly(MeterProvider):
    """Gives meters whose histograms are the provider's and whose other instruments measure nothing.

    The aggregator answers from histograms. FastAPI also counts active requests, up and down, which the SDK works on
    for every request even where each of its readers drops the result.

    Args:
        provider: Where the histograms are made.
    """

    def __init__(self, provider: MeterProvider) -> None:
        self._provider = provider

    def get_meter(
        self, name: str, version: str | None = None, schema_url: str | None = None, attributes: Any = None
    ) -> Meter:
        """A meter of that scope."""
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
