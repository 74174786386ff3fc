"""Groups of failed requests merge in any order and stay bounded; a service has those of all its processes."""

from contextlib import suppress

import pytest

from otel_monitoring.errors import StoreError
from otel_monitoring.metrics.error_groups import GROUPS_LIMIT, ErrorGroup, merged_groups
from otel_monitoring.testing import ManualClock
from tests.metrics.test_service_history import Failing, Process

ONE = ErrorGroup("ValueError", "GET /a", 1, 100.0, 100.0, "1.0", "a stack", "a" * 32)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1000.0)


@pytest.fixture
def stream(clock: ManualClock) -> Failing:
    return Failing(clock)


def test_a_group_knows_its_first_and_last_failure() -> None:
    later = ONE._replace(count=3, first=200.0, last=300.0, version="1.1", stack="", trace_id=None)
    for whole in (ONE.plus(later), later.plus(ONE)):
        assert whole == ONE._replace(count=4, last=300.0)
    newer = later._replace(stack="another", trace_id="b" * 32)
    assert newer.plus(ONE) == ONE._replace(count=4, last=300.0, stack="another", trace_id="b" * 32)


def test_a_group_is_read_as_it_was_written() -> None:
    for group in (ONE, ONE._replace(version=None, trace_id=None, stack="")):
        assert ErrorGroup.of_record(group.as_record()) == group
    for record in (None, [1, 2], ["a", "b", "many", 1, 2, None, "", None]):
        with pytest.raises((ValueError, TypeError)):
            ErrorGroup.of_record(record)


def test_the_groups_that_were_seen_last_are_kept() -> None:
    many = [ONE._replace(route=f"/{number}", last=float(number)) for number in range(GROUPS_LIMIT + 50)]
    groups = merged_groups({}, many)
    assert len(groups) == GROUPS_LIMIT
    assert min(group.last for group in groups.values()) == 50
    assert merged_groups(groups, [ONE._replace(last=1e9)]).keys() >= {ONE.key}


def failing(process: Process, *groups: ErrorGroup) -> None:
    """The process has these failures, and publishes them if it can."""
    waiting = [list(groups), []]
    process.service.take_errors = lambda: waiting.pop(0) if waiting else []
    with suppress(StoreError):
        process.answer()


def test_every_process_has_the_errors_of_all(clock: ManualClock, stream: Failing) -> None:
    one, two = Process(clock, stream), Process(clock, stream)
    failing(one, ONE)
    failing(two, ONE._replace(count=5, last=150.0), ONE._replace(route="GET /b"))
    one.answer()
    for process in (one, two):
        counts = {key: group.count for key, group in process.service.errors.items()}
        assert counts == {("ValueError", "GET /a"): 6, ("ValueError", "GET /b"): 1}


def test_errors_outlive_the_processes_and_their_deltas(clock: ManualClock, stream: Failing) -> None:
    old = Process(clock, stream)
    failing(old, ONE)
    failing(old, ONE)
    clock.advance(60)
    old.service.compact(stream)
    stream._deltas.clear()
    new = Process(clock, stream)
    new.answer()
    assert new.service.errors == {ONE.key: ONE._replace(count=2)}


@pytest.mark.parametrize("when", ["before", "after"])
def test_errors_during_an_outage_are_there_at_once_and_counted_once(
    clock: ManualClock, stream: Failing, when: str
) -> None:
    one, two = Process(clock, stream), Process(clock, stream)
    failing(one)
    failing(two)
    setattr(stream, when, True)
    failing(one, ONE)
    failing(one, ONE)
    assert one.service.errors[ONE.key].count == 2
    setattr(stream, when, False)
    for process in (one, two, one):
        failing(process)
    assert [process.service.errors[ONE.key].count for process in (one, two)] == [2, 2]
