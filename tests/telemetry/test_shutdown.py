"""Pipelines close at the same time and by one deadline."""

import threading
import time

from opentelemetry.sdk.metrics import MeterProvider

from otel_monitoring.metrics.reader import SnapshotReader
from otel_monitoring.telemetry.shutdown import ReaderPipeline, close_all


class Hanging:
    """Something to close that does not close until it is let go."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.aborted = threading.Event()

    def flush(self) -> None:
        pass

    def detach(self) -> None:
        pass

    def close(self, timeout: float) -> None:
        self.released.wait(30)

    def abort(self) -> None:
        self.aborted.set()

    def settle(self) -> None:
        pass


def test_closing_is_parallel() -> None:
    meeting = threading.Barrier(2)

    class Meeting(Hanging):
        def close(self, timeout: float) -> None:
            meeting.wait(30)

    both = [Meeting(), Meeting()]
    close_all([("a", both[0]), ("b", both[1])], time.monotonic() + 30)
    assert not meeting.broken
    assert not any(one.aborted.is_set() for one in both)


def test_closing_is_bounded_and_tidies_up_after_the_last() -> None:
    hanging = [Hanging(), Hanging()]
    provider = MeterProvider(shutdown_on_exit=False)
    reader = SnapshotReader(0.0)
    provider.add_metric_reader(reader)
    tidied = threading.Event()
    close_all(
        [("a", hanging[0]), ("b", hanging[1]), ("reader", ReaderPipeline(provider, reader))],
        time.monotonic() + 0.2,
        afterwards=tidied.set,
    )
    assert all(one.aborted.is_set() for one in hanging)
    assert not tidied.is_set()
    hanging[0].released.set()
    hanging[1].released.set()
    assert tidied.wait(30)
    provider.add_metric_reader(reader)  # it had left: else this warns
    provider.shutdown()
