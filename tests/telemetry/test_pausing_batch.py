import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

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
        assert any(ran.is_set() for _ in PausingBatch(range(1_000_000), abs))


def test_nobody_gets_it_from_a_list() -> None:
    """So the test above can fail."""
    with another_thread() as ran:
        assert not any(ran.is_set() for _ in list(range(1000)))


def test_items_are_prepared_when_they_are_read() -> None:
    prepared: list[int] = []

    def prepare(number: int) -> int:
        prepared.append(number)
        return -number

    batch = PausingBatch([1, 2, 3], prepare)
    assert len(batch) == 3
    assert prepared == []
    assert list(batch) == [-1, -2, -3]
    assert prepared == [1, 2, 3]
    assert batch[0] == -1
    assert list(batch[1:]) == [-2, -3]
