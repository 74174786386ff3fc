"""What one process measured is read again until the slices contain it, and never afterwards."""

from otel_monitoring.alerts.store.memory.slices import MemorySlices
from otel_monitoring.metrics.outcome import OutcomeClassifier
from otel_monitoring.metrics.slices.codec import decoded_service
from otel_monitoring.metrics.slices.model import FINEST
from otel_monitoring.metrics.slices.own_deltas import OwnDeltas
from otel_monitoring.metrics.slices.recorder import Readings, SliceRecorder
from tests.measured import Meter

NOW = 1_800_000_005.0


def test_what_was_noted_is_read_until_it_is_known() -> None:
    own, meter = OwnDeltas(lambda: ()), Meter()
    assert own.read({}) == ([], "")
    meter.requests(3)
    own.note([meter.window(0).snapshot])
    (first,), _ = own.read({})
    meter.requests(2)
    own.note([meter.window(0).snapshot])
    assert own.read({}) == ([first], "")
    (second,), _ = own.read({first.writer: first.number})
    assert second.number == first.number + 1
    assert own.read({first.writer: second.number}) == ([], "")


def test_many_parts_are_kept_as_one() -> None:
    own, meter, table = OwnDeltas(lambda: {"orders"}), Meter(), MemorySlices()
    recorder = SliceRecorder(OutcomeClassifier())
    for _ in range(50):
        meter.requests(1)
        meter.count("orders")
        meter.count("of_a_library")
        own.note([meter.window(0).snapshot])
    assert len(own._parts) < 10
    for _ in range(2):
        recorder.write(table, own, Readings(), NOW)
    (row,) = table.read(FINEST.seconds, 0, 10**11)
    content = decoded_service(row.service)
    assert (content.requests.durations.count, content.counters) == (50, {"orders": 50.0})
