"""What it costs that several processes are one service: to publish what one measured, and to add up what all did."""

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


class _Worker:
    """A process of the service."""

    def __init__(self, path: Path, seed: int) -> None:
        self.now = 0.0
        self.store = SqliteStore(path)
        self._own = History(0.0, span=_SPAN, resolution=_INTERVAL)
        self.service = ServiceHistory(
            self._own, clock=lambda: self.now, wall_clock=time.time, span=_SPAN, resolution=_INTERVAL
        )
        self._random = Random(seed)
        self._reader = SnapshotReader(0.0)
        MeterProvider((self._reader,), shutdown_on_exit=False)
        durations = self._reader.direct(c.HTTP_SERVER_REQUEST_DURATION)
        self._series = [durations.bind(attributes) for attributes in _ATTRIBUTES]
        self._intervals = [self._interval() for _ in range(_DISTINCT)]

    def _interval(self) -> Snapshot:
        for series in self._series:
            for _ in range(_EACH):
                series.record(self._random.lognormvariate(-4, 1))
        return self._reader.take(0.0)

    def measure(self, interval: int) -> None:
        """Let an interval pass in which every series changed."""
        self.now = interval * _INTERVAL
        measured = self._intervals[interval % _DISTINCT].histograms
        snapshot = Snapshot(self.now - _INTERVAL, self.now, measured)
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
    workers = [_Worker(path, seed) for seed in range(WORKERS)]
    found: dict[str, list[float]] = {"publish": [], "merge": [], "base": []}
    for interval in range(1, rounds + _WARM + 1):
        for worker in workers:
            worker.measure(interval)
        for worker in workers[1:]:
            worker.service.exchange(worker.store.measurements)
        reading = workers[0]
        publish, merge = _split(reading)
        if interval > _WARM:
            found["publish"].append(publish)
            found["merge"].append(merge)
        for worker in workers[1:]:
            worker.service.exchange(worker.store.measurements)
        began = time.thread_time()
        reading.service.compact(reading.store.measurements)
        base = (time.thread_time() - began) * _MILLI
        if base > 1 and interval > _WARM:
            found["base"].append(base)
    for worker in workers:
        worker.store.close()
    return found


def _split(worker: _Worker) -> tuple[float, float]:
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
