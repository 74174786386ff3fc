"""The slowest requests: three of each kind in a period, and those of the period before."""

from otel_monitoring.metrics.slow_requests import KEPT, SlowRequests


def seconds(slow: SlowRequests, now: float) -> list[float]:
    return [one.seconds for one in slow.recent(now)]


def test_the_slowest_of_each_kind_are_kept() -> None:
    slow = SlowRequests(60)
    one, other = slow.of({"http.route": "/a"}), slow.of({"http.route": "/b"})
    assert one is not None
    assert other is not None
    for number in range(1, 10):
        one.note(float(number), number)
    other.note(0.5, 99)
    assert seconds(slow, 0) == [9, 8, 7, 0.5]
    assert slow.recent(0)[-1].attributes == {"http.route": "/b"}
    assert one.least == 7
    assert other.least == 0  # there is room


def test_a_request_stays_for_a_period_after_its_own() -> None:
    slow = SlowRequests(60)
    kind = slow.of({})
    assert kind is not None
    assert seconds(slow, 0) == []
    kind.note(3.0, 1)
    assert seconds(slow, 60) == [3.0]
    assert kind.least == 0
    kind.note(2.0, 2)
    assert seconds(slow, 119) == [3.0, 2.0]
    assert seconds(slow, 120) == [2.0]
    assert seconds(slow, 180) == []


def test_kinds_are_bounded() -> None:
    slow = SlowRequests(60)
    assert sum(slow.of({}) is not None for _ in range(1500)) == 1000


def test_as_many_are_kept_as_an_alert_names() -> None:
    from otel_monitoring.alerts.evidence.traces import LIMIT

    assert KEPT == LIMIT
