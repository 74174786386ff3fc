"""The running sums are those of the slices in each window, whatever was read at once or one after the other."""

from collections.abc import Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_monitoring.alerts.rules.indicators import FasterThan, Succeeded
from otel_monitoring.alerts.store.memory.slices import MemorySlices
from otel_monitoring.metrics.event_sums import ALL, Counts, EventSums
from otel_monitoring.metrics.slices.codec import encoded_routes, encoded_service
from otel_monitoring.metrics.slices.model import TIERS, Requests, Slice, merged_slices
from otel_monitoring.metrics.slices.recorder import WrittenUpTo
from otel_monitoring.metrics.slices.sums import EventSumsReader, RunningSums
from otel_monitoring.metrics.slices.table import Position, SliceRow
from otel_monitoring.metrics.snapshot import Histogram

START = 1_800_000_000
"""A whole hour."""
GOOD = Succeeded()
DAY = 86_400


def requests(count: int, errors: int = 0, seconds: float = 0.1) -> Requests:
    return Requests(Histogram(count, count * seconds, seconds, seconds), errors)


def content(routes: Mapping[str, tuple[int, int]], seconds: float = 10.0) -> Slice:
    whole = requests(sum(count for count, _ in routes.values()), sum(errors for _, errors in routes.values()))
    return Slice(seconds, whole, {route: requests(*counts) for route, counts in routes.items()})


def fed(slices: Mapping[int, Slice], wanted: int, now: int) -> EventSums:
    sums = RunningSums([(GOOD, wanted)])
    for start, each in slices.items():
        sums.at(start)
        sums.add(start, start + 10, each)
    return sums.at(now)


class Table(MemorySlices):
    """Slices as the recorder writes them: coarser ones are the sum of finer ones, and made when their time is over."""

    def __init__(self, slices: Mapping[int, Slice], now: int) -> None:
        super().__init__()
        self.reads: list[tuple[int, int, int]] = []
        self.put(slices, now)

    def put(self, slices: Mapping[int, Slice], now: int) -> None:
        rows = []
        for tier in TIERS:
            by_slot: dict[int, list[Slice]] = {}
            for start, each in slices.items():
                by_slot.setdefault(tier.slot(start), []).append(each)
            for slot, parts in by_slot.items():
                if now - tier.kept <= slot and slot + tier.seconds <= now:
                    whole = merged_slices(parts)
                    rows.append(SliceRow(tier.seconds, slot, encoded_service(whole), encoded_routes(whole.routes)))
        position = self.position()
        before = position.version if position is not None else ""
        # What was written until then changes no more: the recorder's position is so far ahead.
        assert self.advance(before, Position(f"{now}", WrittenUpTo(now + 60.0, {}, ()).encoded()), rows)

    def read(self, tier: int, start: int, end: int, *, routes: bool = False) -> list[SliceRow]:
        self.reads.append((tier, start, end))
        return list(super().read(tier, start, end, routes=routes))


def test_a_window_has_the_events_of_its_time_alone() -> None:
    slices = {START + 10 * n: content({"/a": (10, n % 2), "/b": (5, 0)}) for n in range(100)}
    found = fed(slices, 300, START + 1000).over(GOOD, 300)
    assert found.measured == 300
    assert found.groups == {ALL: Counts(450, 15), "/a": Counts(300, 15), "/b": Counts(150, 0)}
    assert fed(slices, 300, START + 1200).over(GOOD, 300).of(ALL) == Counts(150, 5), "nothing was measured since"
    assert fed(slices, 300, START + 1300).over(GOOD, 300).groups == {}


def test_a_window_that_was_not_asked_for_is_not_measured() -> None:
    past = RunningSums([(GOOD, 300)]).at(START)
    assert past.over(GOOD, 3600).measured == 0
    assert past.since is None


def test_slow_requests_are_estimated_from_the_distribution() -> None:
    fast, slow = Histogram(90, 9.0, 0.1, 0.1), Histogram(10, 20.0, 2.0, 2.0)
    assert FasterThan(1.0).counts(Slice(10.0, Requests(fast)))[ALL] == Counts(90, 0)
    assert FasterThan(1.0).counts(Slice(10.0, Requests(slow)))[ALL] == Counts(10, 10)
    assert FasterThan(2.0).counts(Slice(10.0, Requests(slow)))[ALL] == Counts(10, 0), "at most so long is good"


RequestsAndErrors = st.tuples(st.integers(0, 50), st.integers(0, 5)).map(lambda counts: (sum(counts), counts[1]))
Slots = st.dictionaries(
    st.integers(0, 400),
    st.dictionaries(st.sampled_from(("/a", "/b", "/c")), RequestsAndErrors, max_size=3),
    max_size=60,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(Slots, st.integers(0, 420), st.sampled_from((60, 300, 1800, 3600)))
def test_the_sums_are_those_of_the_slices_in_the_window(
    slots: dict[int, dict[str, tuple[int, int]]], at: int, seconds: int
) -> None:
    slices = {START + 10 * slot: content(slots[slot]) for slot in sorted(slots) if slot <= at}
    now = START + 10 * at + 10
    found = fed(slices, seconds, now).over(GOOD, seconds)
    step = {60: 10, 300: 10, 1800: 60, 3600: 60}[seconds]
    inside = [each for start, each in slices.items() if _end_of_entry(slices, start, step) > now - seconds]
    assert found.of(ALL) == Counts(
        sum(each.requests.durations.count for each in inside), sum(each.requests.errors for each in inside)
    )
    for route in ("/a", "/b", "/c"):
        events = sum(each.routes[route].durations.count for each in inside if route in each.routes)
        assert found.of(route).events == events
    assert found.measured == min(seconds, sum(each.seconds for each in inside))


def _end_of_entry(slices: Mapping[int, Slice], start: int, step: int) -> int:
    """The end of the last slice in the entry of a slice: an entry leaves as a whole."""
    return max(other + 10 for other in slices if other // step == start // step)


def test_what_is_read_at_once_is_what_was_read_one_after_the_other() -> None:
    """After a restart, or where another process leads: the same sums from coarser slices."""
    slices = {START + 10 * n: content({"/a": (n % 7, n % 2 and n % 3 == 0)}) for n in range(3 * 360)}
    wanted = [(GOOD, seconds) for seconds in (300, 1800, 3600, 6 * 3600, 3 * DAY, 30 * DAY)]
    half, end = START + 5410, START + 3 * 3600
    followed = EventSumsReader()
    table = Table({start: each for start, each in slices.items() if start < half}, half)
    followed.read(table, wanted)
    for now in range(half + 10, end + 1, 10):
        table.put({now - 10: slices[now - 10]}, now)
        past = followed.read(table, wanted)
    fresh = EventSumsReader().read(Table(slices, end), wanted)
    assert past == fresh
    assert past is not None
    assert past.over(GOOD, 30 * DAY).of(ALL).events == sum(each.requests.durations.count for each in slices.values())


def test_a_tick_reads_the_new_slices_alone() -> None:
    slices = {START + 10 * n: content({"/a": (1, 0)}) for n in range(720)}
    table = Table(slices, START + 7200)
    reader = EventSumsReader()
    wanted = [(GOOD, 30 * DAY), (GOOD, 300)]
    reader.read(table, wanted)
    table.reads.clear()
    table.put({START + 7200: content({"/a": (1, 1)})}, START + 7210)
    past = reader.read(table, wanted)
    assert table.reads == [(10, START + 7200, START + 7210)]
    assert past is not None
    assert past.over(GOOD, 300).of(ALL) == Counts(30, 1)


def test_a_young_service_is_not_asked_for_a_month_of_seconds() -> None:
    now = START + 600
    table = Table({START + at: content({"/a": (1, 0)}) for at in range(0, 600, 10)}, now)
    past = EventSumsReader().read(table, [(GOOD, 30 * DAY), (GOOD, 300)])
    assert past is not None
    assert past.sums[GOOD, 30 * DAY].groups[ALL].events == 60
    assert len(table.reads) < 100


def test_other_windows_are_read_anew() -> None:
    slices = {START + 10 * n: content({"/a": (1, 0)}) for n in range(60)}
    table = Table(slices, START + 600)
    reader = EventSumsReader()
    reader.read(table, [(GOOD, 300)])
    past = reader.read(table, [(GOOD, 300), (FasterThan(0.05), 3600)])
    assert past is not None
    assert past.over(FasterThan(0.05), 3600).of("/a") == Counts(60, 60)


def test_without_slices_nothing_is_known() -> None:
    assert EventSumsReader().read(MemorySlices(), [(GOOD, 300)]) is None


@pytest.mark.parametrize("limit", [0.0, 0.01, 0.3, 1.0, 4.0, 9.0])
def test_how_many_values_are_below_a_limit(limit: float) -> None:
    """The estimate is the inverse of the quantile."""
    from otel_monitoring.metrics.direct_histogram import DirectHistogram

    bound = DirectHistogram("d").bind({})
    values = [0.02 * n for n in range(1, 200)]
    for value in values:
        bound.record(value)
    histogram = bound.take()
    assert histogram is not None
    assert histogram.below(limit) == pytest.approx(sum(value <= limit for value in values), abs=2)
