"""What the processes of a service published is in the slices once, whoever leads, whatever fails."""

import random
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise

import pytest

from otel_monitoring.alerts.store.memory.measurements import MemoryMeasurements
from otel_monitoring.alerts.store.memory.slices import MemorySlices
from otel_monitoring.errors import StoreError
from otel_monitoring.metrics.outcome import OutcomeClassifier
from otel_monitoring.metrics.slices.codec import decoded_routes, decoded_service
from otel_monitoring.metrics.slices.model import OTHER_ROUTES, TIERS, Slice, merged_slices
from otel_monitoring.metrics.slices.recorder import Readings, SliceRecorder, WrittenUpTo
from otel_monitoring.metrics.slices.table import Position, SliceRow
from otel_monitoring.testing import ManualClock
from tests.metrics.test_service_history import Failing, Process

START = 1_800_000_000.0
"""A whole hour."""
FINEST = TIERS[0].seconds


class Table(MemorySlices):
    """Fails on request: before the change takes effect, or after it."""

    before = after = False

    def advance(self, before: str, position: Position, rows: Sequence[SliceRow]) -> bool:
        if self.before:
            raise StoreError("away")
        done = super().advance(before, position, rows)
        if self.after:
            raise StoreError("no answer")
        return done


class World:
    """A service of two processes, of which one at a time leads."""

    def __init__(self) -> None:
        self.clock = ManualClock(START)
        self.stream = MemoryMeasurements(self.clock)
        self.table = Table()
        self.processes = [Process(self.clock, self.stream), Process(self.clock, self.stream)]
        self.leader = self.new_leader()
        for process in self.processes:
            process.service.before_base = self.write

    def new_leader(self) -> SliceRecorder:
        self.leader = SliceRecorder(OutcomeClassifier())
        return self.leader

    def measure(self, requests: int, *, by: int = 0, route: str = "/a") -> None:
        """Measure and publish, as at the end of a sample interval."""
        self.processes[by].measure(requests, route=route)
        self.exchange(by)

    def exchange(self, by: int) -> None:
        """Publish, and as the leader compact."""
        with suppress(StoreError):
            self.processes[by].service.exchange(self.stream)
            if by == 0:
                self.processes[by].service.compact(self.stream)

    def write(self, readings: Readings = Readings()) -> bool:  # noqa: B008 - it is immutable
        return self.leader.write(self.table, self.stream, readings, self.clock())

    def slices(self, tier: int = FINEST) -> dict[int, Slice]:
        """By the start of their slots, in seconds since `START`."""
        rows = self.table.read(tier, 0, int(START) * 2, routes=True)
        return {int(row.start - START): _slice(row) for row in rows}

    def counts(self, tier: int = FINEST) -> dict[int, int]:
        return {start: one.requests.durations.count for start, one in self.slices(tier).items()}


def _slice(row: SliceRow) -> Slice:
    service = decoded_service(row.service)
    return service._replace(routes=decoded_routes(row.routes))


def _figures(content: Slice) -> object:
    """What is exact in a slice: sums of durations are stored with seven digits."""
    histograms = [content.requests.durations, *(one.durations for one in content.routes.values())]
    histograms += content.histograms.values()
    counts = [(one.count, one.min, one.max, list(one.buckets.counts())) for one in histograms]
    return content.seconds, content.requests.errors, content.gauges, content.counters, counts


@pytest.fixture
def world() -> World:
    return World()


def test_a_slice_has_what_all_processes_published_in_its_time(world: World) -> None:
    world.write()
    world.clock.advance(5)
    world.measure(3)
    world.measure(2, by=1, route="/b")
    world.write()
    world.clock.advance(10)
    world.measure(1)
    world.write()
    slices = world.slices()
    assert world.counts() == {0: 5, 10: 1}
    assert {name: one.durations.count for name, one in slices[0].routes.items()} == {"/a": 3, "/b": 2}
    assert (slices[0].counters, slices[0].seconds) == ({"orders": 5.0}, 10.0)
    assert (slices[0].histograms["sizes"].count, slices[0].histograms["sizes"].mean) == (5, 5.0)


def test_a_slot_in_which_nothing_happened_has_no_requests_and_one_without_a_leader_is_a_gap(world: World) -> None:
    world.write()
    world.clock.advance(20)
    world.write()
    world.clock.advance(3600)
    world.write()
    assert world.counts() == {0: 0, 10: 0, 20: 0, 3620: 0}


def test_a_store_with_little_room_has_the_routes_with_the_most_requests(world: World) -> None:
    world.table.routes_limit = 3
    for number, route in enumerate("abcdef"):
        world.measure(number + 1, route=f"/{route}")
    world.write()
    world.measure(5, route="/a")
    world.new_leader()
    world.write()
    (content,) = world.slices().values()
    assert {name: one.durations.count for name, one in content.routes.items()} == {"/f": 6, "/a": 5, OTHER_ROUTES: 15}
    assert content.requests.durations.count == 26


def test_the_readings_are_in_the_slice_of_their_time(world: World) -> None:
    world.write(Readings({"cpu": [10.0, 30.0], "broken": [float("nan")]}))
    world.clock.advance(5)
    world.write(Readings({"cpu": [80.0]}))
    gauges = world.slices()[0].gauges
    assert set(gauges) == {"cpu"}
    assert (gauges["cpu"].mean, gauges["cpu"].most) == (40.0, 80.0)


def test_a_leader_that_changes_in_the_middle_of_a_slice_loses_and_doubles_nothing(world: World) -> None:
    world.measure(3)
    world.write()
    world.measure(2, by=1)
    world.new_leader()
    world.clock.advance(2)
    world.measure(1)
    world.write()
    assert world.counts() == {0: 6}


def test_of_two_leaders_at_a_time_one_writes(world: World) -> None:
    world.write()
    one, two = world.leader, world.new_leader()
    world.measure(3)
    position = world.table.position()
    assert position is not None

    class Slow(Table):
        """The other leader writes while this one is at work."""

        def advance(self, before: str, position: Position, rows: Sequence[SliceRow]) -> bool:
            two.write(world.table, world.stream, Readings(), world.clock())
            return world.table.advance(before, position, rows)

    slow = Slow()
    slow.advance("", position, [])
    slow.position, slow.read = world.table.position, world.table.read  # type: ignore[method-assign]
    assert one.write(slow, world.stream, Readings(), world.clock()) is False
    assert world.counts() == {0: 3}
    assert one.write(world.table, world.stream, Readings(), world.clock()) is True
    assert world.counts() == {0: 3}


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_could_not_be_written_is_written_later(world: World, when: str) -> None:
    world.write()
    world.measure(3)
    setattr(world.table, when, True)
    with pytest.raises(StoreError):
        world.write()
    setattr(world.table, when, False)
    world.measure(2)
    world.write()
    assert world.counts() == {0: 5}


def test_what_was_measured_while_the_store_was_away_is_spread_over_that_time(world: World) -> None:
    process, failing = world.processes[0], Failing(world.clock)
    process.stream = world.stream = failing
    world.write()
    for away in (True, True, True, True, False):
        for _ in range(10):
            failing.before = away
            process.measure(6)
            world.exchange(0)
            world.clock.advance(5)
    world.write()
    counts = world.counts()
    assert sum(counts.values()) == 300
    assert sorted(counts) == list(range(0, 251, 10))
    inside = {start: count for start, count in counts.items() if 0 < start < 200}
    assert {start: count for start, count in inside.items() if not 10 <= count <= 14} == {}


def test_what_was_published_last_before_a_stop_is_in_the_slices_of_its_time(world: World) -> None:
    world.write()
    world.clock.advance(4)
    world.measure(7)
    world.clock.advance(600)
    world.new_leader()
    world.write()
    assert world.counts() == {0: 7, 600: 0}


def test_a_clock_that_is_wrong_by_days_moves_little(world: World) -> None:
    world.write()
    skewed = Process(ManualClock(START - 500_000), world.stream)
    skewed.service.before_base = world.write
    skewed.measure(3)
    skewed.service.exchange(world.stream)
    world.clock.advance(10)
    world.write()
    assert sum(world.counts().values()) == 3
    assert min(world.counts()) >= -60


def test_coarser_slices_are_the_sums_of_the_finer_ones(world: World) -> None:
    for _ in range(2 * 360 + 60):
        world.measure(1)
        world.write(Readings({"cpu": [50.0]}))
        world.clock.advance(10)
    hours = world.counts(3600)
    assert [hours[start] for start in sorted(hours)] == [360] * 2
    for finer, coarser in pairwise(TIERS):
        fine = world.slices(finer.seconds)
        for start, whole in world.slices(coarser.seconds).items():
            parts = [fine[at] for at in range(start, start + coarser.seconds, finer.seconds) if at in fine]
            if len(parts) == coarser.seconds // finer.seconds:
                assert _figures(whole) == _figures(merged_slices(parts))
    kept = world.slices(10)
    assert max(kept) - min(kept) <= TIERS[0].kept + 900


def test_a_new_leader_makes_the_coarser_slices_that_are_missing(world: World) -> None:
    for _ in range(30):
        world.measure(1)
        world.write()
        world.clock.advance(10)
    # The leader dies before the last minute is over; the next one comes when its slices are older than they are kept.
    assert max(world.counts(60)) < 240
    world.clock.advance(7200)
    world.new_leader()
    for _ in range(8):
        world.write()
        world.clock.advance(10)
    minutes = world.counts(60)
    assert sum(count for start, count in minutes.items() if start < 300) == 30
    assert world.counts(300)[0] == 30


def test_the_slices_of_a_future_that_never_was_are_deleted(world: World) -> None:
    world.clock.advance(400 * 86_400)
    world.write()
    world.clock.advance(-400 * 86_400)
    for _ in range(61):
        world.write()
        world.clock.advance(10)
    assert max(world.counts()) == 600


def test_a_release_is_noted_once(world: World) -> None:
    for version in ("1.0", "1.0", None, "1.1", "1.0"):
        world.write(Readings(version=version))
        world.clock.advance(10)
        world.new_leader()
    written = WrittenUpTo.of(world.table.position())
    assert written is not None
    assert written.releases == [(START, "1.0"), (START + 30, "1.1"), (START + 40, "1.0")]


def test_a_row_that_cannot_be_read_costs_its_own_slot_alone(world: World) -> None:
    world.measure(3)
    world.write()
    position = world.table.position()
    assert position is not None
    broken = SliceRow(FINEST, int(START), b"broken", b"broken")
    world.table.advance(position.version, Position("x", b"broken"), [broken])
    world.clock.advance(10)
    world.new_leader()
    world.measure(2)
    world.write()
    assert decoded_service(world.table.read(FINEST, int(START) + 10, int(START) + 11)[0].service).seconds == 10.0


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_lost_or_doubled_whatever_fails(world: World, seed: int) -> None:
    chance = random.Random(seed)
    measured = 0
    world.write()
    for _ in range(150):
        requests = chance.randint(0, 4)
        measured += requests
        world.measure(requests, by=chance.randint(0, 1))
        if chance.random() < 0.1:
            world.new_leader()
        world.table.before, world.table.after = chance.random() < 0.1, chance.random() < 0.1
        with suppress(StoreError):
            world.write()
        world.clock.advance(chance.random() * 20)
    world.table.before = world.table.after = False
    for by in (0, 1):
        world.exchange(by)
    world.write()
    assert sum(world.counts().values()) == measured
