"""One worker leads; another takes over when its lease is over, and at once when it is given back."""

from collections.abc import Collection

import pytest

from otel_monitoring.alerts.store import MemoryStore
from otel_monitoring.alerts.store.leases import LEADER, LeaderLease
from otel_monitoring.alerts.store.memory.workers import MemoryLeases
from otel_monitoring.errors import StoreError
from otel_monitoring.testing import ManualClock


class Counting(MemoryLeases):
    """Counts how often the lease is written, and may be out of order."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.written = 0
        self.broken = False

    def lead(self, worker: str, now: float, until: float, leases: Collection[str] = (LEADER,)) -> frozenset[str]:
        if self.broken:
            raise StoreError("disk full")
        self.written += 1
        return super().lead(worker, now, until, leases)


@pytest.fixture(name="clock")
def _clock() -> ManualClock:
    return ManualClock()


def test_one_of_two_leads_and_the_other_when_the_lease_is_over(clock: ManualClock) -> None:
    leases = MemoryStore().leases
    one, two = (LeaderLease(leases, name, clock, 5.0) for name in ("one", "two"))
    assert (one.hold(), two.hold()) == (True, False)
    assert (one.held, two.held) == (True, False)
    clock.now += 5.0
    assert not one.held, "who was stopped knows so without asking"
    assert two.hold()
    assert not one.hold()


def test_a_lease_is_renewed_when_half_of_it_is_over(clock: ManualClock) -> None:
    leases = Counting()
    lease = LeaderLease(leases, "one", clock, 5.0)
    for _ in range(3):
        assert lease.hold()
    assert leases.written == 1
    clock.now += 2.5
    assert lease.hold()
    assert leases.written == 2
    clock.now += 4.9
    assert lease.held, "it counts from its renewal"


def test_given_back_it_is_free_at_once(clock: ManualClock) -> None:
    leases = MemoryStore().leases
    one, two = (LeaderLease(leases, name, clock, 5.0) for name in ("one", "two"))
    one.hold()
    one.give_back()
    assert not one.held
    assert two.hold()
    one.give_back()
    assert two.held, "nobody gives back another one's"


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_a_clock_that_jumps_makes_nobody_lead_for_longer(clock: ManualClock, jump: float) -> None:
    leases = MemoryStore().leases
    one = LeaderLease(leases, "one", clock, 5.0)
    one.hold()
    clock.now += jump
    assert not one.held
    assert one.hold(), "asked again, it is had again"


def test_a_store_that_cannot_answer_ends_nothing_before_its_time(clock: ManualClock) -> None:
    leases = Counting()
    lease = LeaderLease(leases, "one", clock, 5.0)
    lease.hold()
    leases.broken = True
    clock.now += 3.0
    with pytest.raises(StoreError):
        lease.hold()
    assert lease.held
    clock.now += 2.0
    assert not lease.held
