"""Callbacks of observable instruments, run by the SDK's own collection."""

import asyncio
from collections.abc import Generator, Iterable

import pytest
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_monitoring.telemetry.meter_providers import GuardedMeterProvider


def values(reader: InMemoryMetricReader) -> dict[str, list[object]]:
    data = reader.get_metrics_data()
    scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
    return {
        metric.name: [getattr(point, "value", None) for point in metric.data.data_points]
        for scope in scopes
        for metric in scope.metrics
    }


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), ValueError("x")])
@pytest.mark.parametrize("kind", ["gauge", "counter", "up_down_counter"])
def test_whatever_a_callback_raises_the_others_are_collected(error: BaseException, kind: str) -> None:
    def fail(_: CallbackOptions) -> Iterable[Observation]:
        yield Observation(1)
        raise error

    reader = InMemoryMetricReader()
    provider = GuardedMeterProvider((reader,), shutdown_on_exit=False)
    meter = provider.get_meter("application")
    assert provider.get_meter("application") is meter
    create = getattr(meter, f"create_observable_{kind}")
    create("failing", callbacks=[fail], unit="1")
    create("good", [lambda _: [Observation(7)]], "1", "fine")
    for _ in range(2):
        assert values(reader)["good"] == [7]
    provider.shutdown()


def test_generators_are_left_to_the_sdk() -> None:
    def observed() -> Generator[Iterable[Observation], CallbackOptions, None]:
        while True:
            yield [Observation(5)]

    reader = InMemoryMetricReader()
    provider = GuardedMeterProvider((reader,), shutdown_on_exit=False)
    provider.get_meter("application").create_observable_gauge("heat", [observed()])
    assert values(reader) == {"heat": [5]}
    provider.shutdown()
