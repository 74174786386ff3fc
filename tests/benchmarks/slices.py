"""What the past costs: a tick of the process that leads, the file of 30 days, and an answer from it."""

import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import cycle, pairwise
from pathlib import Path

from otel_monitoring.alerts.rules.indicators import FasterThan
from otel_monitoring.alerts.rules.slo import Slo, wanted_sums
from otel_monitoring.alerts.store.mongodb.documents import text_of
from otel_monitoring.alerts.store.sqlite import SqliteStore
from otel_monitoring.health.series import series
from otel_monitoring.health.series_query import Grid, SeriesQuery
from otel_monitoring.health.slice_metrics import Known
from otel_monitoring.metrics.direct_histogram import DirectHistogram
from otel_monitoring.metrics.outcome import OutcomeClassifier
from otel_monitoring.metrics.serialization import SnapshotCodec
from otel_monitoring.metrics.slices.codec import encoded_routes, encoded_service
from otel_monitoring.metrics.slices.model import FINEST, TIERS, GaugeFigures, merged_slices
from otel_monitoring.metrics.slices.recorder import LATE_SECONDS, Readings, SliceRecorder, WrittenUpTo
from otel_monitoring.metrics.slices.slice_maker import SliceMaker
from otel_monitoring.metrics.slices.sums import EventSumsReader
from otel_monitoring.metrics.slices.table import Position, SliceRow
from otel_monitoring.metrics.snapshot import Histogram, Series, Snapshot
from otel_monitoring.metrics.stream import Delta
from otel_monitoring.metrics.window import Window
from otel_monitoring.semconv import (
    HTTP_REQUEST_METHOD,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
    HTTP_SERVER_REQUEST_DURATION,
)
from tests.benchmarks.report import Report

ROUTES = [f"/api/v1/resource{number % 25}/{{id}}/part{number}" for number in range(100)]
_REQUESTS = 100
"""Requests of a route in ten seconds: 1,000 a second in all."""
_FAILED = 2
_DISTINCT = 100
_POOL = 24
_START = 1_800_000_000
_MIB = 2**20
_KEY = 100
"""Bytes of a document's key and of the names of its fields."""
_GAUGES = [*("cpu", "process_cpu", "memory", "loop_lag", "ping", "pool"), *(f"~gauge.{number}" for number in range(20))]
_SHOWN = ("requests", "error_rate", "p50", "p95", "p99", "durations", "cpu", "memory", "loop_lag", "ping", "pool")
_COUNTERS = [f"counter.{number}" for number in range(20)]
_HISTOGRAMS = [f"histogram.{number}" for number in range(10)]
_OWN = [*_COUNTERS, *_HISTOGRAMS]


def run(report: Report, rounds: int, *, lean: bool) -> None:
    """Print a tick, the size of a file that is full, and answers from it; `lean`: only what has a goal."""
    chance = random.Random(1)
    deltas = [_delta(chance) for _ in range(_POOL)]
    report.section(
        "The past",
        f"{len(ROUTES)} routes, 1,000 requests a second, 2 % errors, {len(_COUNTERS)} counters, 20 gauges and "
        f"{len(_HISTOGRAMS)} histograms of the application's own, SQLite. CPU time of the process that leads, for each "
        "10 s; the file with all that is kept.",
    )
    with tempfile.TemporaryDirectory() as folder:
        ticks = _ticks(Path(folder) / "ticks.db", deltas, 60 * rounds)
        path = Path(folder) / "full.db"
        store = SqliteStore(path)
        rows, documents = _fill(store, deltas, chance, _DISTINCT if lean else None)
        store.close()
        size = path.stat().st_size / _MIB
        asked = {} if lean else _answers(store)
        begins, goes_on = _objectives(store, made_of=deltas, count=10 * rounds)
        store.close()
    median, worst = statistics.median(ticks), statistics.quantiles(ticks, n=20)[-1]
    report.table(
        ("what", "measured"),
        [
            ("a tick, median", f"{median:.1f} ms"),
            ("a tick, 95 of 100 are faster", f"{worst:.1f} ms"),
            ("objectives: a tick, mean", f"{goes_on:.1f} ms"),
            ("objectives: all slices, when a process begins to lead", f"{begins:.0f} ms"),
            (f"the file, {rows:,} slices", f"{size:.1f} MiB"),
            ("the same as documents of MongoDB", f"{documents / _MIB:.1f} MiB"),
            *((what, f"{took:.0f} ms") for what, took in asked.items()),
        ],
    )
    report.figure("past.tick", statistics.fmean(ticks))
    report.figure("past.size", size)
    report.figure("past.documents", documents / _MIB)
    report.figure("past.objectives", goes_on)


def _delta(chance: random.Random) -> Snapshot:
    histograms = {}
    for number, route in enumerate(ROUTES):
        for status, requests in ((200, _REQUESTS - _FAILED), (500, _FAILED)):
            bound = DirectHistogram(HTTP_SERVER_REQUEST_DURATION).bind({})
            for _ in range(requests):
                bound.record(chance.lognormvariate(math.log(0.01 + 0.002 * (number % 30)), 0.6))
            attributes = ((HTTP_REQUEST_METHOD, "GET"), (HTTP_RESPONSE_STATUS_CODE, status), (HTTP_ROUTE, route))
            histogram = bound.take()
            if histogram is not None:
                histograms[Series(HTTP_SERVER_REQUEST_DURATION, attributes)] = histogram
    for name in _HISTOGRAMS:
        bound = DirectHistogram(name).bind({})
        for _ in range(_REQUESTS):
            bound.record(chance.lognormvariate(3, 1))
        histograms[Series(name)] = bound.take() or Histogram()
    return Snapshot(0.0, 10.0, histograms, {Series(name): chance.random() for name in _COUNTERS})


def _ticks(path: Path, deltas: Sequence[Snapshot], count: int) -> list[float]:
    """CPU time of each tick, in milliseconds."""
    store, recorder, codec = SqliteStore(path), SliceRecorder(OutcomeClassifier()), SnapshotCodec()
    readings = Readings({name: [1.5] for name in _GAUGES}, "1.0")
    took = []
    for tick in range(count):
        now = float(_START + tick * FINEST.seconds)
        content = codec.encode(deltas[tick % len(deltas)], {"at": now, "own": _OWN})
        store.measurements.add(Delta("worker", tick + 1, content))
        began = time.thread_time()
        recorder.write(store.slices, store.measurements, readings, now)
        took.append((time.thread_time() - began) * 1000)
    store.close()
    return took


def _fill(
    store: SqliteStore, deltas: Sequence[Snapshot], chance: random.Random, distinct: int | None
) -> tuple[int, int]:
    """All slices that are kept; each is the sum of finer ones that were drawn by lot.

    Args:
        store: Gets them.
        deltas: What the finest are made of.
        chance: Draws the lots.
        distinct: After so many of a tier the same come again, which take as many bytes; None: each is another one.

    Returns:
        The number of slices, and the bytes that they take as documents of a MongoDB database.
    """
    codec = SnapshotCodec()
    maker = SliceMaker(codec, OutcomeClassifier())
    made = [maker.slice_of([codec.decode(codec.encode(delta, {"own": _OWN}))]) for delta in deltas]
    drawn = [one._replace(seconds=10.0, gauges=_gauges(chance)) for one in made]
    end, version, rows, documents = _START, "", 0, 0
    steps = {TIERS[0].seconds: 1} | {
        coarser.seconds: coarser.seconds // finer.seconds for finer, coarser in pairwise(TIERS)
    }
    for tier in TIERS:
        kept = tier.kept // tier.seconds
        slices = [
            merged_slices(chance.choices(drawn, k=steps[tier.seconds])) for _ in range(min(kept, distinct or kept))
        ]
        encoded = [(encoded_service(content), encoded_routes(content.routes)) for content in slices]
        for start, (service, routes) in zip(range(end - tier.kept, end, tier.seconds), cycle(encoded), strict=False):
            documents += len(text_of(service)) + len(text_of(routes)) + _KEY
            row = SliceRow(tier.seconds, start, service, routes)
            store.slices.advance(version, Position(f"{tier.seconds} {start}", b""), [row])
            version = f"{tier.seconds} {start}"
        rows += kept
        drawn = slices[:_POOL]
    return rows, documents


def _objectives(store: SqliteStore, *, made_of: Sequence[Snapshot], count: int) -> tuple[float, float]:
    """CPU time of the sums over 30 days and of the rules on them, in milliseconds: at first, and the mean of a tick."""
    slos = (Slo("a", 99.9), Slo("b", 99, FasterThan(1)), Slo("c", 99.9, per="endpoint"))
    rules = [rule for slo in slos for rule in slo.rules()]
    reader, wanted = EventSumsReader(), wanted_sums(rules)
    codec = SnapshotCodec()
    maker = SliceMaker(codec, OutcomeClassifier())
    slices = [maker.slice_of([codec.decode(codec.encode(delta, {}))]) for delta in made_of]

    def tick() -> None:
        past = reader.read(store.slices, wanted)
        for rule in rules:
            rule.expression.readings(Window(Snapshot(0, 0), past))

    took = []
    for number in range(count):
        position, start = store.slices.position(), _START + FINEST.seconds * number
        content = slices[number % len(slices)]
        row = SliceRow(FINEST.seconds, start, encoded_service(content), encoded_routes(content.routes))
        # The recorder is so far ahead of the slices that change no more.
        written = WrittenUpTo(start + FINEST.seconds + LATE_SECONDS, {}, ()).encoded()
        store.slices.advance(position.version if position is not None else "", Position(f"{number}", written), [row])
        took.append(_cpu(tick))
    return took[0], statistics.fmean(took[1:])


def _gauges(chance: random.Random) -> dict[str, GaugeFigures]:
    found = {}
    for name in _GAUGES:
        value = round(chance.random() * 100, 2)
        found[name] = GaugeFigures(1, value, value, value)
    return found


def _answers(store: SqliteStore) -> dict[str, float]:
    return {
        "p95, the last hour": _answer(store, ["p95"], "1h"),
        "p95, the last day": _answer(store, ["p95"], "1d"),
        "p95, 30 days": _answer(store, ["p95"], "30d", step="1h"),
        "p95 of one route, 30 days": _answer(store, ["p95"], "30d", step="1h", endpoint=ROUTES[7]),
        "what a page shows, the last hour": _answer(store, _SHOWN, "1h"),
        "what a page shows, 30 days": _answer(store, _SHOWN, "30d", step="1h"),
    }


def _answer(
    store: SqliteStore, metrics: Sequence[str], span: str, *, step: str | None = None, endpoint: str | None = None
) -> float:
    """CPU time of an answer in milliseconds, the least of three."""
    query = SeriesQuery(metrics, span, step, endpoint)

    def ask() -> object:
        return series(store.slices, query, Grid.of(query, float(_START + 10)), Known())

    return min(_cpu(ask) for _ in range(3))


def _cpu(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return (time.thread_time() - began) * 1000
