"""Shuts down all that may hang, in parallel and under one deadline."""

import threading
import time
from collections.abc import Callable, Sequence

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.trace import TracerProvider

from otel_monitoring.guard import fail_open
from otel_monitoring.telemetry.logs_sdk import LoggerProvider
from otel_monitoring.telemetry.pipelines import Pipeline


class ReaderPipeline:
    """The aggregator's reader as something to close: leaving waits for a collection that runs."""

    def __init__(self, provider: MeterProvider, reader: MetricReader) -> None:
        self._provider = provider
        self._reader = reader

    def flush(self) -> None:
        """Nothing: a reader exports nothing."""

    def detach(self) -> None:
        """Measurements are taken until it has left."""

    def close(self, timeout: float) -> None:
        """Leave the provider."""
        self._provider.remove_metric_reader(self._reader)

    def abort(self) -> None:
        """Nothing: a reader exports nothing."""

    def settle(self) -> None:
        """Nothing: a reader exports nothing."""


class JoinedPipeline:
    """A provider of the application's as something to close: sent is what waits, and it stays open.

    Whoever made it closes it at exit, which a server that ends by the signal it was sent (uvicorn) never comes to.
    """

    def __init__(self, provider: MeterProvider | TracerProvider | LoggerProvider) -> None:
        self._provider = provider

    def flush(self) -> None:
        """Flush it."""
        self._provider.force_flush()

    def detach(self) -> None:
        """Nothing: others use it too."""

    def close(self, timeout: float) -> None:
        """Flush it."""
        self._provider.force_flush(int(timeout * 1000))

    def abort(self) -> None:
        """Nothing: its exports are the application's."""

    def settle(self) -> None:
        """Nothing: its exports are the application's."""


def close_all(
    pipelines: Sequence[tuple[str, Pipeline]], deadline: float, afterwards: Callable[[], None] | None = None
) -> None:
    """Close all in parallel; return by `deadline`. `afterwards` runs when the last one is closed, maybe later."""
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
        except RuntimeError:  # the interpreter is going down and starts no more threads
            close(index, 1 / (len(pipelines) - index), settle=False)
        else:
            threads.append(thread)
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    for index in list(open_ones):
        with fail_open("telemetry shutdown"):
            pipelines[index][1].abort()
