"""The totals of a service are the sum of what its processes measured: whoever answers, whoever ends, whatever fails."""

import random
from collections.abc import Mapping, Sequence

import pytest

from otel_monitoring.alerts.store.memory.measurements import MemoryMeasurements
from otel_monitoring.errors import StoreError
from otel_monitoring.metrics import service_history
from otel_monitoring.metrics.database_work import CommandUse, DatabaseWork, QueryShape, Repetition
from otel_monitoring.metrics.service_history import ErrorSeen, ServiceHistory
from otel_monitoring.metrics.snapshot import Snapshot
from otel_monitoring.metrics.stream import Base, Delta
from otel_monitoring.metrics.window import History
from otel_monitoring.testing import ManualClock
from tests.measured import Meter, increase_in, recorded_in

NAME = "http.server.request.duration"


class Failing(MemoryMeasurements):
    """Fails on request: before the change takes effect, or after it."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.before = self.after = False

    def add(self, *deltas: Delta) -> None:
        self._fail(self.before)
        super().add(*deltas)
        self._fail(self.after)

    def read(self, known: Mapping[str, int]) -> tuple[Sequence[Delta], str]:
        self._fail(self.before)
        return super().read(known)

    def base(self) -> Base | None:
        self._fail(self.before)
        return super().base()

    @staticmethod
    def _fail(fails: bool) -> None:
        if fails:
            raise StoreError("away")


class Process:
    """One process of the service."""

    def __init__(self, clock: ManualClock, stream: MemoryMeasurements) -> None:
        self.stream = stream
        self.clock = clock
        self.meter = Meter()
        self.own = History(clock(), span=300.0, resolution=10.0)
        self.service = ServiceHistory(self.own, clock=clock, wall_clock=clock, span=300.0, resolution=10.0)
        self.service.own_metrics = lambda: {"orders", "sizes"}

    def measure(self, requests: int, *, route: str = "/a", seconds: float = 0.1) -> None:
        for _ in range(requests):
            self.meter.request(route, seconds=seconds)
        self.meter.count("orders", requests)
        for _ in range(requests):
            self.meter.record("sizes", 5.0)
        window = self.meter.window(0).snapshot
        self.own.add(Snapshot(self.own.total.end, self.clock(), window.histograms, window.sums))
        self.service.note(Snapshot(self.clock(), self.clock(), window.histograms, window.sums))

    def answer(self, error: ErrorSeen | None = None) -> int:
        """The total that it would show."""
        self.service.exchange(self.stream, error)
        total = self.service.history.total
        assert increase_in(total, "orders") == recorded_in(total, NAME).count
        return recorded_in(total, NAME).count

    @property
    def recent(self) -> int:
        return recorded_in(self.service.history.recent, NAME).count


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def stream(clock: ManualClock) -> Failing:
    return Failing(clock)


def test_every_process_shows_the_same_total_at_once(clock: ManualClock, stream: Failing) -> None:
    processes = [Process(clock, stream) for _ in range(4)]
    for number, process in enumerate(processes, 1):
        process.measure(number)
        process.answer()
    assert {process.answer() for process in processes} == {10}


def test_what_is_published_without_reading_is_known_to_the_others(
    clock: ManualClock, stream: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = Process(clock, stream), Process(clock, stream)
    other.measure(4)
    other.answer()
    one.measure(2)
    with monkeypatch.context() as patch:
        for reading in ("read", "base", "replace_base"):
            patch.delattr(MemoryMeasurements, reading)
        one.service.exchange(stream, read=False)
        assert not one.service.joined
    assert other.answer() == one.answer() == 6
    assert one.service.joined


def test_what_is_not_published_yet_waits_and_does_not_count(clock: ManualClock, stream: Failing) -> None:
    one, other = Process(clock, stream), Process(clock, stream)
    one.measure(1)
    one.answer()
    one.measure(2)
    other.measure(4)
    other.answer()
    one.service.exchange(stream, publish=False)
    assert recorded_in(one.service.history.total, NAME).count == 5
    assert other.answer() == 5
    assert one.answer() == other.answer() == 7
    one.measure(8)
    stream.before = True
    with pytest.raises(StoreError):
        one.answer()
    assert one.service.problem == "away"
    stream.before = False
    one.service.exchange(stream, publish=False)
    assert other.answer() == 15, "what was shown is published"


def test_the_totals_count_from_the_time_of_all_processes(clock: ManualClock, stream: Failing) -> None:
    ahead = 420.0
    own = History(clock(), span=300.0, resolution=10.0)
    service = ServiceHistory(own, clock=clock, wall_clock=lambda: clock() + ahead, span=300.0, resolution=10.0)
    began = clock()
    clock.advance(5)
    ahead = 0.0  # the store's clock is known from the first exchange on
    service.exchange(stream)
    clock.advance(60)
    assert service.since == pytest.approx(began)


def test_totals_do_not_count_from_the_future_where_the_clock_was_set_back(clock: ManualClock, stream: Failing) -> None:
    ahead = 3600.0
    own = History(clock(), span=300.0, resolution=10.0)
    service = ServiceHistory(own, clock=clock, wall_clock=lambda: clock() + ahead, span=300.0, resolution=10.0)
    service.exchange(stream)
    clock.advance(60)
    ahead = 0.0
    assert service.since == clock()
    other = Process(clock, stream)
    assert other.answer() == 0
    assert other.service.since == clock(), "the base says what its writer thought"
    other.measure(1)
    other.answer()
    set_back = clock()
    clock.advance(60)
    other.service.compact(stream)
    service.exchange(stream)
    for _ in range(2):
        assert set_back <= service.since == other.service.since <= clock()
        clock.advance(60)


def test_no_later_answer_goes_back(clock: ManualClock, stream: Failing) -> None:
    draw, shown, sent = random.Random(1), 0, 0
    processes = [Process(clock, stream) for _ in range(4)]
    for step in range(600):
        clock.advance(draw.random())
        process = draw.choice(processes)
        count = draw.randrange(3)
        process.measure(count)
        sent += count
        total = process.answer()
        assert total >= shown
        shown = total
        if step % 40 == 0:
            draw.choice(processes).service.compact(stream)
        if step % 50 == 0:  # what it has published stays
            process.answer()
            processes[processes.index(process)] = Process(clock, stream)
    assert {process.answer() for process in processes} == {sent}
    assert len(stream._deltas) < 210


def test_a_new_process_knows_totals_window_and_when_they_began(clock: ManualClock, stream: Failing) -> None:
    began = clock()
    old = Process(clock, stream)
    old.measure(5)
    old.answer(ErrorSeen("boom", 7.0))
    clock.advance(400)
    old.measure(3)
    old.answer()
    old.service.compact(stream)
    assert len(stream._deltas) == 1, "for whoever has not read what the base has now"
    clock.advance(100)
    new = Process(clock, stream)
    assert (new.answer(), new.recent) == (8, 3)
    assert (new.service.since, new.service.last_error) == (began, ErrorSeen("boom", 7.0))
    assert new.service.history.total.seconds == 500
    clock.advance(250)
    new.measure(1)
    assert (new.answer(), new.recent) == (9, 1), "what the base had of the window leaves it by its age"


def test_after_a_long_pause_the_window_is_empty_and_the_totals_stay(clock: ManualClock, stream: Failing) -> None:
    old = Process(clock, stream)
    old.measure(5)
    old.answer()
    clock.advance(60)
    old.answer()
    old.service.compact(stream)
    clock.advance(3600)
    new = Process(clock, stream)
    assert (new.answer(), new.recent, new.service.history.recent.seconds) == (5, 0, 0)


def test_a_process_behind_the_base_begins_anew_from_it(clock: ManualClock, stream: Failing) -> None:
    late, leader = Process(clock, stream), Process(clock, stream)
    late.measure(2)
    late.answer()
    for _ in range(150):
        clock.advance(1)
        leader.measure(1)
        leader.answer()
        leader.service.compact(stream)
    late.measure(3)
    assert late.answer() == 155
    assert leader.answer() == 155
    assert late.recent == leader.recent
    for step in range(40):
        clock.advance(10)
        busy = (late, leader)[step % 2]
        busy.measure(1, route="/b")
        assert {busy.answer(), late.answer(), leader.answer()} == {156 + step}
        assert late.recent == pytest.approx(leader.recent, abs=11), "their entries of 10 s begin at other times"
    assert late.recent == leader.recent == pytest.approx(31, abs=1)


def test_a_process_that_knows_all_of_the_base_goes_on(clock: ManualClock, stream: Failing) -> None:
    one, leader = Process(clock, stream), Process(clock, stream)
    leader.measure(2)
    leader.answer()
    one.answer()
    before = one.service._shared
    assert before is not None
    clock.advance(60)
    leader.service.compact(stream)
    one.measure(1)
    assert one.answer() == 3
    assert one.service._shared is before


def test_what_the_base_has_is_deleted_with_the_next_one(clock: ManualClock, stream: Failing) -> None:
    one, slow = Process(clock, stream), Process(clock, stream)
    one.answer()
    slow.answer()
    before = slow.service._shared
    assert before is not None
    for _ in range(3):
        one.measure(1)
        one.answer()
        clock.advance(60)
        one.service.compact(stream)
        slow.measure(1)
        slow.answer()
    assert slow.service._shared is before, "it was never behind"
    assert len(stream._deltas) == 3


def test_while_the_store_fails_the_own_counts_go_on_and_arrive_once_later(clock: ManualClock, stream: Failing) -> None:
    one, other = Process(clock, stream), Process(clock, stream)
    for process in (one, other):
        process.measure(1)
        process.answer()
    one.answer()
    stream.before = True
    for _ in range(30):
        one.measure(1)
        with pytest.raises(StoreError):
            one.answer()
    assert recorded_in(one.service.history.total, NAME).count == 32
    stream.before = False
    other.measure(4)
    assert other.answer() == 6
    assert (one.answer(), other.answer()) == (36, 36)


def test_a_delta_that_was_accepted_before_the_failure_counts_once(clock: ManualClock, stream: Failing) -> None:
    one, other = Process(clock, stream), Process(clock, stream)
    stream.after = True
    one.measure(3)
    for _ in range(3):
        with pytest.raises(StoreError):
            one.answer()
    stream.after = False
    assert other.answer() == 3
    other.measure(1)
    other.answer()
    clock.advance(60)
    other.service.compact(stream)
    assert (one.answer(), other.answer(), Process(clock, stream).answer()) == (4, 4, 4)


def test_a_store_that_was_emptied_gets_the_totals_again(clock: ManualClock, stream: Failing) -> None:
    one = Process(clock, stream)
    one.measure(3)
    one.answer()
    empty = Failing(clock)
    one.stream = empty
    one.measure(1)
    assert one.answer() == 4
    assert Process(clock, empty).answer() == 4


def test_a_process_that_began_in_the_emptied_store_learns_the_totals(clock: ManualClock, stream: Failing) -> None:
    old = Process(clock, stream)
    old.measure(3)
    old.answer()
    old.stream = empty = Failing(clock)
    new = Process(clock, empty)
    assert new.answer() == 0
    new.measure(1)
    assert new.answer() == 1
    assert old.answer() == 4
    clock.advance(60)
    old.service.compact(empty)
    assert (new.answer(), Process(clock, empty).answer()) == (4, 4)


def test_what_began_in_the_emptied_store_takes_no_totals_away(clock: ManualClock, stream: Failing) -> None:
    old = Process(clock, stream)
    old.measure(3)
    old.answer()
    old.stream = empty = Failing(clock)
    new = Process(clock, empty)
    new.measure(1)
    new.answer()
    clock.advance(60)
    new.service.compact(empty)
    assert old.answer() == 4
    old.measure(1)
    assert old.answer() == 5


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 50])
def test_what_cannot_be_read_is_left_out(clock: ManualClock, stream: Failing, content: bytes) -> None:
    one = Process(clock, stream)
    one.measure(2)
    one.answer()
    stream.add(Delta("another", 1, content))
    assert one.answer() == 2
    assert stream.replace_base(one.service._version, "another", content, {})
    assert one.answer() == 2
    one.service.compact(stream)
    assert (one.answer(), Process(clock, stream).answer()) == (2, 2)


def test_a_fork_of_a_process_begins_as_one_of_its_own(clock: ManualClock, stream: Failing) -> None:
    one = Process(clock, stream)
    one.measure(2)
    one.answer()
    one.service.begin()
    one.measure(1)
    assert one.answer() == 3
    assert Process(clock, stream).answer() == 3


def test_the_base_of_a_faster_process_may_have_what_this_one_has_not_read(clock: ManualClock, stream: Failing) -> None:
    faster, slower = Process(clock, stream), Process(clock, stream)

    def meanwhile() -> bool:
        faster.measure(5)
        faster.answer()
        return False

    slower.measure(2)
    slower.service.before_base = meanwhile
    assert slower.answer() == 7
    assert faster.answer() == 7


def test_the_last_error_is_the_newest_of_all_processes(clock: ManualClock, stream: Failing) -> None:
    one, other = Process(clock, stream), Process(clock, stream)
    one.answer(ErrorSeen("first", 1.0))
    other.answer(ErrorSeen("second", 2.0))
    one.answer(ErrorSeen("first", 1.0))
    assert one.service.last_error == other.service.last_error == ErrorSeen("second", 2.0)
    assert [writer for writer, _ in stream._deltas] == [one.service._writer, other.service._writer], "each once"


def test_an_error_of_a_process_whose_clock_was_ahead_hides_no_later_one(clock: ManualClock, stream: Failing) -> None:
    one, other = Process(clock, stream), Process(clock, stream)
    one.answer(ErrorSeen("from the future", clock() + 420.0))
    other.answer()
    assert one.service.last_error == other.service.last_error == ErrorSeen("from the future", clock())
    clock.advance(1.0)
    one.answer(ErrorSeen("later", clock()))
    other.answer()
    Process(clock, stream).answer()
    assert one.service.last_error == other.service.last_error == ErrorSeen("later", clock())


def test_what_is_the_applications_own_is_known_of_processes_that_have_ended(
    clock: ManualClock, stream: Failing
) -> None:
    ended, follows = Process(clock, stream), Process(clock, stream)
    follows.service.own_metrics = lambda: {"later"}
    follows.answer()
    ended.measure(1)
    ended.answer()
    follows.answer()
    assert follows.service.metrics == {"orders", "sizes", "later"}
    follows.measure(200)
    clock.advance(60.0)
    follows.answer()
    follows.service.compact(stream)
    new = Process(clock, stream)
    new.service.own_metrics = lambda: ()
    new.answer()
    assert new.service.metrics == {"orders", "sizes", "later"}


def test_the_base_keeps_the_processes_that_wrote_last(
    clock: ManualClock, stream: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_history, "_WRITERS", 50)
    leader = Process(clock, stream)
    for _ in range(70):
        process = Process(clock, stream)
        process.service._version = "x"  # it reads nothing
        process.measure(1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(process.service, "_receive", lambda _: (None, ()))
            process.answer()
    assert leader.answer() == 70
    leader.service.compact(stream)
    assert len(leader.service._known) == 50
    assert Process(clock, stream).answer() == 70


def test_what_routes_do_with_the_database_is_added_up_over_processes_and_bases(
    clock: ManualClock, stream: Failing
) -> None:
    def work(commands: int, caller: str = "") -> DatabaseWork:
        key = "request", "GET /a", "find", "orders"
        return DatabaseWork.of(
            [CommandUse(*key, commands, commands / 10, 1)],
            [Repetition(*key, "{_id: ?}", 1, commands, commands, clock(), clock(), caller)],
            [QueryShape("shop", "find", "orders", "{_id: ?}", 1, 0.5, 0.5, clock(), clock(), (key[:2],))],
        )

    one, other = Process(clock, stream), Process(clock, stream)
    for process, found in ((one, work(10, "shop/a.py:7")), (other, work(15))):
        process.service.take_work = iter([found, *[DatabaseWork()] * 10]).__next__
        process.answer()
        clock.advance(1)
    one.answer()
    other.service.compact(stream)
    clock.advance(100)
    one.measure(1)
    one.answer()
    one.service.compact(stream)
    late = Process(clock, stream)
    late.answer()
    for process in (one, other, late):
        (use,) = process.service.work.uses.items.values()
        (repetition,) = process.service.work.repetitions.items.values()
        (shape,) = process.service.work.shapes.items.values()
        assert (use.commands, use.seconds, use.retries) == (25, 2.5, 2)
        assert (repetition.requests, repetition.most, repetition.caller) == (2, 15, "shop/a.py:7")
        assert (shape.slow, shape.sources) == (2, (("request", "GET /a"),))
    assert [use.commands for use in one.service.own_work.uses.items.values()] == [10]
    assert not late.service.own_work
