"""The processes of a service: who is there, how old what they say is, and what they are together."""

from typing import Any

from otel_monitoring.health.instances import Instances, SeenInstance, reasons_of, system_of


def state(number: int = 1, **further: Any) -> dict[str, Any]:
    return {"number": number, "status": "healthy", "reasons": [], "host": "a", "pid": 1, **further}


def names(instances: Instances, now: float) -> list[str]:
    return [other.id for other in instances.others(now)]


def test_one_that_says_nothing_new_leaves_after_a_while() -> None:
    instances = Instances(10.0)
    instances.learn({"a": state(1), "b": state(1)}, "a", 0.0)
    instances.learn({"a": state(2), "b": state(1)}, "a", 20.0)
    assert [(other.id, other.age, other.leads) for other in instances.others(25.0)] == [
        ("a", 5, True),
        ("b", 25, False),
    ]
    assert names(instances, 31.0) == ["a"]
    instances.learn({"a": state(2), "b": state(2)}, "a", 40.0)
    assert names(instances, 40.0) == ["a", "b"], "it was away"


def test_each_leaves_after_three_of_its_own_intervals() -> None:
    instances = Instances(10.0)
    instances.learn({"seldom": state(interval=60.0), "often": state(interval=1.0), "old": state()}, None, 0.0)
    assert names(instances, 3.0) == ["often", "old", "seldom"]
    assert names(instances, 4.0) == ["old", "seldom"]
    assert names(instances, 180.0) == ["seldom"]
    assert names(instances, 181.0) == []
    assert "interval" not in instances.others(0.0)[0].as_json()


def test_one_that_is_no_longer_among_the_reports_leaves_at_once() -> None:
    instances = Instances(10.0)
    instances.learn({"a": state(), "b": state()}, None, 0.0)
    instances.learn({"b": state()}, "b", 1.0)
    assert names(instances, 1.0) == ["b"]
    assert instances.leads("b")


def test_the_oldest_comes_first_and_inner_matters_are_not_shown() -> None:
    instances = Instances(10.0)
    young, old = state(started_at="2026-02-02"), state(started_at="2026-01-01", gauges=[1], system={"memory_mb": 5.0})
    instances.learn({"a": young, "b": old}, None, 0.0)
    assert names(instances, 0.0) == ["b", "a"]
    shown = instances.others(3.0)[0].as_json()
    assert not {"gauges", "counters", "number"} & shown.keys()
    assert (shown["report_age_seconds"], shown["leads"], shown["system"]["memory_mb"]) == (3.0, False, 5.0)


def test_the_system_of_a_service_has_averages_maxima_and_the_highest() -> None:
    one = {"cpu_percent": 10.0, "max_cpu_percent": 20.0, "memory_mb": 100.5, "thread_count": 3, "cpu_limit": None}
    other = {"cpu_percent": 30.0, "max_cpu_percent": 90.0, "memory_mb": None, "thread_count": 6, "cpu_limit": None}
    whole = system_of([one, other])
    assert {key: whole[key] for key in one} == {
        "cpu_percent": 20.0,
        "max_cpu_percent": 90.0,
        "memory_mb": 100.5,
        "thread_count": 4,
        "cpu_limit": None,
    }
    assert whole["highest"] == {
        "cpu_percent": 30.0,
        "process_cpu_percent": None,
        "memory_mb": 100.5,
        "memory_percent": None,
    }
    assert {key: system_of([one])[key] for key in one} == one


def test_reasons_of_others_are_said_once_and_name_the_process() -> None:
    down = state(status="unhealthy", reasons=["database is down"], pid=7)
    slow = state(status="degraded", reasons=["CPU of the host above 80%", "database is down"], pid=8)
    others = [SeenInstance(str(n), one, 0.0, leads=False) for n, one in enumerate((down, slow, state()))]
    assert reasons_of(others, []) == [
        "database is down (host a, pid 7)",
        "CPU of the host above 80% (host a, pid 8)",
    ]
    assert reasons_of(others, ["CPU of the host above 80%"]) == ["database is down (host a, pid 7)"]
