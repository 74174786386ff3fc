"""`Pipeline`: the way of a signal from its provider to an endpoint, made in each worker.

`close_all` closes pipelines in parallel by one deadline, because each of them may hang.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader

from otel_monitoring.guard import fail_open

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from otel_monitoring.telemetry.logs_sdk import LoggerProvider


class Pipeline(Protocol):
    """The way of one signal out of the process; it is at work from construction on."""

    def flush(self) -> None:
        """Export what waits, and stay open; blocks for as long as an export may take."""

    def detach(self) -> None:
        """Accept nothing more; returns at once."""

    def close(self, timeout: float) -> None:
        """Export what waits and end the threads, in `timeout` seconds, or longer where the SDK ignores the limit."""

    def abort(self) -> None:
        """Give up the export in progress; returns at once."""

    def settle(self) -> None:
        """Wait for the end of an export that `abort` or `close` could not interrupt."""


class ReaderPipeline:
    """The aggregator's reader as a `Pipeline`: its removal waits for a collection in progress."""

    def __init__(self, provider: MeterProvider, reader: MetricReader) -> None:
        self._provider = provider
        self._reader = reader

    def flush(self) -> None:
        """Nothing: the reader exports nothing."""

    def detach(self) -> None:
        """Nothing: the reader measures until it is removed."""

    def close(self, timeout: float) -> None:
        """Remove the reader from the provider."""
        self._provider.remove_metric_reader(self._reader)

    def abort(self) -> None:
        """Nothing: the reader exports nothing."""

    def settle(self) -> None:
        """Nothing: the reader exports nothing."""


class JoinedPipeline:
    """A provider of the application's own as a `Pipeline`: `close` flushes it, and it stays open.

    The application closes it at exit, but a server that ends by the signal it received (uvicorn) never gets there.
    """

    def __init__(self, provider: "MeterProvider | TracerProvider | LoggerProvider") -> None:
        self._provider = provider

    def flush(self) -> None:
        """Have the provider export what waits."""
        self._provider.force_flush()

    def detach(self) -> None:
        """Nothing: the application uses it, too."""

    def close(self, timeout: float) -> None:
        """Have the provider export what waits."""
        self._provider.force_flush(int(timeout * 1000))

    def abort(self) -> None:
        """Nothing: the application owns the exports."""

    def settle(self) -> None:
        """Nothing: the application owns the exports."""


def close_all(
    pipelines: Sequence[tuple[str, Pipeline]], deadline: float, afterwards: Callable[[], None] | None = None
) -> None:
    """Close all pipelines in parallel, and return by `deadline` at the latest.

    Args:
        pipelines: The pipelines with their names, which the threads are named after.
        deadline: Seconds of `time.monotonic`. A pipeline that is still open then is aborted.
        afterwards: Called when the last pipeline is closed, which may be after the deadline.
    """
    for _, pipeline in pipelines:
        pipeline.detach()
    open_ones = set(range(len(pipelines)))
    lock = threading.Lock()

    def close(index: int, share: float = 1.0, *, settle: bool = True) -> None:
        pipeline = pipelines[index][1]
        with fail_open("telemetry shutdown"):
            pipeline.close(share * max(0.0, deadline - time.monotonic()))
            if settle:
                pipeline.settle()
        with lock:
            open_ones.discard(index)
            last = not open_ones
        if last and afterwards is not None:
            afterwards()

    threads = []
    for index, (name, _) in enumerate(pipelines):
        thread = threading.Thread(target=close, args=(index,), name=f"otel-monitoring-stop-{name}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter exits and starts no more threads
            close(index, 1 / (len(pipelines) - index), settle=False)
        else:
            threads.append(thread)
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    for index in list(open_ones):
        with fail_open("telemetry shutdown"):
            pipelines[index][1].abort()
