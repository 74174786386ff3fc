"""What the processes say about themselves, as readings of gauges for the slices of the past."""

from otel_monitoring.health.readings import DOCUMENTS, OWN, readings_of

STATE = {
    "version": "2.3.1",
    "system": {"cpu_percent": 20.0, "process_cpu_percent": 5, "memory_mb": 100.0, "memory_percent": None},
    "event_loop": {"max_lag_seconds": 0.002},
    "database": {"response_time_ms": 1.5},
    "gauges": [{"name": "queue.depth", "attributes": {}, "value": 3}],
    "pool": 2.0,
}


def test_each_process_is_a_reading_and_connections_are_added() -> None:
    other = {**STATE, "system": {"cpu_percent": 60.0}, "pool": 5.0, "version": "2.3.0"}
    readings = readings_of([STATE, other], {"orders": {"document_count": 12, "indexes": []}, "gone": {}})
    gauges = {name: list(values) for name, values in readings.gauges.items()}
    assert gauges["cpu"] == [20.0, 60.0]
    assert gauges["process_cpu"] == [5.0]
    assert gauges["memory"] == [100.0]
    assert gauges["memory_percent"] == []
    assert gauges["loop_lag"] == [0.002, 0.002]
    assert gauges["ping"] == [0.0015, 0.0015]
    assert gauges["pool"] == [7.0]
    assert gauges[DOCUMENTS + "orders"] == [12.0]
    assert gauges[DOCUMENTS + "gone"] == []
    assert gauges[OWN + "queue.depth"] == [3.0, 3.0]
    assert readings.version == "2.3.1"


def test_what_others_report_is_read_with_care() -> None:
    hostile = {"system": 3, "event_loop": None, "database": {"response_time_ms": "x"}, "gauges": [1, {"value": "y"}]}
    readings = readings_of([{}, hostile], {"a": None})
    assert not any(list(values) for values in readings.gauges.values())
    assert readings.version is None


def test_the_names_are_bounded_and_redacted() -> None:
    many = [{"name": f"g{number:03}", "value": 1} for number in range(500)]
    collections = {f"c{number:03}": {"document_count": 1} for number in range(500)}
    secret = "mongodb://user:hunter2@host/"
    readings = readings_of([{"gauges": many}], {secret: {}, **collections})
    assert len(readings.gauges) < 100
    assert not any("hunter2" in name for name in readings_of([], {secret: {}}).gauges)
