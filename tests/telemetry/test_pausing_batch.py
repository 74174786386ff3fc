import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from otel_monitoring.telemetry import pausing_batch
from otel_monitoring.telemetry.pausing_batch import PausingBatch
from tests.waiting import PATIENCE


@contextmanager
def another_thread() -> Iterator[threading.Event]:
    """An event that another thread sets once it gets the interpreter's lock, which nobody is made to give away."""
    begin, ran = threading.Event(), threading.Event()

    def work() -> None:
        begin.wait()
        ran.set()

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=work)
    thread.start()
    sys.setswitchinterval(PATIENCE)
    try:
        begin.set()
        yield ran
    finally:
        sys.setswitchinterval(interval)
        thread.join()


def test_another_thread_gets_the_interpreter_while_a_batch_is_read() -> None:
    with another_thread() as ran:
        assert any(ran.is_set() for _ in PausingBatch(range(1_000_000), abs, float))


def test_nobody_gets_it_from_a_list() -> None:
    """So the test above can fail."""
    with another_thread() as ran:
        assert not any(ran.is_set() for _ in list(range(1000)))


def test_items_are_prepared_when_they_are_read() -> None:
    prepared: list[int] = []

    def prepare(number: int) -> int:
        prepared.append(number)
        return -number

    batch = PausingBatch([1, 2, 3], prepare, float)
    assert len(batch) == 3
    assert prepared == []
    assert list(batch) == [-1, -2, -3]
    assert prepared == [1, 2, 3]
    assert batch[0] == -1
    assert list(batch[1:]) == [-2, -3]


def pauses(monkeypatch: pytest.MonkeyPatch, fill: float) -> int:
    """How often a batch of 512 pauses, of which each takes a tenth of a millisecond."""
    now, slept = [0.0], []

    def work(item: int) -> int:
        now[0] += 0.0001
        return item

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += 0.005

    monkeypatch.setattr(pausing_batch, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    assert list(PausingBatch(range(512), work, lambda: fill)) == list(range(512))
    return len(slept)


def test_the_fuller_the_queue_the_less_it_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pause may take the 5 ms for which the application keeps the interpreter."""
    often = pauses(monkeypatch, 0.0)
    assert often == pauses(monkeypatch, 0.25)
    assert 150 < often < 180
    assert often > 3 * pauses(monkeypatch, 0.4) > 3 * pauses(monkeypatch, 0.6) > 0
    assert pauses(monkeypatch, 1.0) < 10
