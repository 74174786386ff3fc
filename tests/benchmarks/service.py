"""What it costs that several processes are one service: to publish what one measured, and to add up what all did."""

import gc
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from statistics import median

from opentelemetry.sdk.metrics import MeterProvider

from otel_monitoring import semconv as c
from otel_monitoring.alerts.store.sqlite import SqliteStore
from otel_monitoring.metrics.reader import SnapshotReader
from otel_monitoring.metrics.serialization import SnapshotCodec
from otel_monitoring.metrics.service_history import ServiceHistory
from otel_monitoring.metrics.snapshot import Snapshot
from otel_monitoring.metrics.stream import Delta
from otel_monitoring.metrics.window import History
from tests.benchmarks.figures import spread
from tests.benchmarks.report import Report

WORKERS, ROUTES, STATUSES = 8, 300, (200, 400, 404, 409, 503)
_EACH = 3
_DISTINCT = 3
_INTERVAL = 10.0
_SPAN = 60.0
"""Short, so that the window is full in most intervals: what leaves it costs, too."""
_WARM = 7
_MILLI = 1e3
_MIB = 1024.0 * 1024.0


def run(report: Report, rounds: int) -> None:
    """The section of the report."""
    report.section(
        f"{WORKERS} workers, {ROUTES} routes x {len(STATUSES)} statuses",
        f"CPU of one worker in a sample interval in which every series changed ({_EACH} log-normal durations each), "
        f"after {_WARM} intervals that fill the window; one SQLite file, {rounds} intervals. 'publish' encodes and "
        f"stores what it measured, 'merge' reads, decodes and adds up that of {WORKERS} workers, for the total and for "
        "the window, 'base' replaces what is older by its sum, once in three intervals and by the worker that leads.",
    )
    with tempfile.TemporaryDirectory() as folder:
        found = _measured(Path(folder) / "alerts.db", rounds)
        size = sum(path.stat().st_size for path in Path(folder).iterdir()) / _MIB
    rows = [
        [name, f"{median(own):.1f}", f"{spread(own):.1f}", f"{min(own):.1f}", f"{max(own):.1f}"]
        for name, own in found.items()
    ]
    report.table(("what", "median ms", "± ms", "least ms", "most ms"), rows)
    report.figure("service.publish", median(found["publish"]))
    report.figure("service.merge", median(found["merge"]))
    report.figure("service.file", size)


class _Measurements:
    """What a worker measures: a few intervals in turn, in each of which every series changed."""

    def __init__(self, seed: int) -> None:
        draw, reader = Random(seed), SnapshotReader(0.0)
        MeterProvider((reader,), shutdown_on_exit=False)
        durations = reader.direct(c.HTTP_SERVER_REQUEST_DURATION)
        # Requests come to each worker in another order, and so do its series.
        series = [durations.bind(attributes) for attributes in draw.sample(_ATTRIBUTES, len(_ATTRIBUTES))]
        self._intervals = []
        for _ in range(_DISTINCT):
            for one in series:
                for _ in range(_EACH):
                    one.record(draw.lognormvariate(-4, 1))
            self._intervals.append(reader.take(0.0).histograms)

    def of(self, interval: int) -> Snapshot:
        """Those of an interval."""
        now = interval * _INTERVAL
        return Snapshot(now - _INTERVAL, now, self._intervals[interval % _DISTINCT])


class _Writer:
    """A worker of which only what it publishes matters here: what the others read does not grow this process."""

    def __init__(self, store: SqliteStore, seed: int) -> None:
        self._store, self._name = store, f"writer-{seed}"
        self._measurements, self._codec = _Measurements(seed), SnapshotCodec()

    def publish(self, interval: int) -> None:
        """Publish what it measured in an interval."""
        content = self._codec.encode(self._measurements.of(interval), {"at": time.time()})
        self._store.measurements.add(Delta(self._name, interval, content))


class _Reader:
    """The worker that is measured."""

    def __init__(self, path: Path) -> None:
        self.now = 0.0
        self.store = SqliteStore(path)
        self._own = History(0.0, span=_SPAN, resolution=_INTERVAL)
        self.service = ServiceHistory(
            self._own, clock=lambda: self.now, wall_clock=time.time, span=_SPAN, resolution=_INTERVAL
        )
        self._measurements = _Measurements(0)

    def measure(self, interval: int) -> None:
        """Let an interval pass."""
        self.now = interval * _INTERVAL
        snapshot = self._measurements.of(interval)
        self._own.add(snapshot)
        self.service.note(snapshot)


_ATTRIBUTES: Sequence[Mapping[str, str | int]] = [
    {
        c.HTTP_REQUEST_METHOD: "GET",
        c.HTTP_ROUTE: f"/api/v1/things/{route}/{{id}}",
        c.HTTP_RESPONSE_STATUS_CODE: status,
        c.NETWORK_PROTOCOL_VERSION: "1.1",
        c.URL_SCHEME: "http",
    }
    for route in range(ROUTES)
    for status in STATUSES
]


def _measured(path: Path, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of CPU of each part."""
    reader = _Reader(path)
    writers = [_Writer(reader.store, seed) for seed in range(1, WORKERS)]
    # What else is in this process is in no worker.
    gc.collect()
    gc.freeze()
    found: dict[str, list[float]] = {"publish": [], "merge": [], "base": []}
    for interval in range(1, rounds + _WARM + 1):
        for writer in writers:
            writer.publish(interval)
        reader.measure(interval)
        publish, merge = _split(reader)
        began = time.thread_time()
        reader.service.compact(reader.store.measurements)
        base = (time.thread_time() - began) * _MILLI
        if interval > _WARM:
            found["publish"].append(publish)
            found["merge"].append(merge)
            found["base"] += [base] if base > 1 else []
    gc.unfreeze()
    reader.store.close()
    return found


def _split(worker: _Reader) -> tuple[float, float]:
    """Milliseconds until the worker's delta is stored, and from then on."""
    stream, stored = worker.store.measurements, [0.0]
    add = stream.add

    def timed(*deltas: Delta) -> None:
        add(*deltas)
        stored.append(time.thread_time())

    stream.add = timed  # type: ignore[method-assign]
    began = time.thread_time()
    worker.service.exchange(stream)
    windows = worker.service.history
    for window in (windows.total, windows.recent):
        if len(window.snapshot.histograms) != len(_ATTRIBUTES):
            raise RuntimeError("a series is missing")
    ended = time.thread_time()
    stream.add = add  # type: ignore[method-assign]
    return (stored[-1] - began) * _MILLI, (ended - stored[-1]) * _MILLI
