"""What the reader takes of an application's own metrics: all kinds, and of others' what the endpoints need."""

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider

from otel_monitoring.metrics.reader import SnapshotReader
from otel_monitoring.metrics.snapshot import Series
from otel_monitoring.semconv import SCOPE


def test_every_kind_of_metric_of_the_application_is_read() -> None:
    reader = SnapshotReader(0.0)
    provider = MeterProvider((reader,), shutdown_on_exit=False)

    def depth(_: CallbackOptions) -> list[Observation]:
        return [Observation(7, {"queue": "mail"})]

    for scope in ("shop", SCOPE, "opentelemetry.instrumentation.asgi"):
        meter = provider.get_meter(scope)
        kind = scope.rpartition(".")[2]
        busy = meter.create_up_down_counter(f"{kind}.busy")
        busy.add(5)
        busy.add(-2)
        meter.create_observable_up_down_counter(f"{kind}.depth", [depth])
        meter.create_counter(f"{kind}.sold").add(4)
        meter.create_histogram(f"{kind}.size").record(12.0)
        meter.create_gauge(f"{kind}.load").set(0.5)
    first = reader.take(1.0)
    assert reader.application.keys() == {"shop.busy", "shop.depth", "shop.sold", "shop.size", "shop.load"}
    gauges = {series: value for series, value in first.gauges.items() if series.name.startswith("shop")}
    depth_of_mail = Series("shop.depth", (("queue", "mail"),))
    assert gauges == {Series("shop.busy"): 3, depth_of_mail: 7, Series("shop.load"): 0.5}
    assert not {"asgi.busy", "asgi.depth", f"{SCOPE}.busy"} & {series.name for series in first.gauges}
    assert first.sums[Series("shop.sold")] == 4
    assert first.histograms[Series("shop.size")].count == 1
    second = reader.take(2.0)
    assert second.gauges[Series("shop.busy")] == 3
    assert not second.sums


def test_up_down_counters_of_others_are_read_where_they_are_wanted() -> None:
    reader = SnapshotReader(0.0)
    assert reader.want({"threads"}) == set()
    provider = MeterProvider((reader,), shutdown_on_exit=False)
    for name in ("threads", "files"):
        provider.get_meter(SCOPE).create_observable_up_down_counter(name, [lambda _: [Observation(7)]])
    assert reader.take(1.0).gauges == {Series("threads"): 7}
    assert reader.want({"files", "unknown"}) == {"files"}
