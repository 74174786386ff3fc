"""What is to be reached: a row for each figure of the benchmarks, with what it is judged by.

A key begins with the section that measures it. A ratio is judged as it is. CPU time is judged as it would be on the
reference machine, which `calibration` knows: a slow machine misses no goal by itself.
"""

from dataclasses import dataclass
from typing import Literal

Unit = Literal["x", "µs", "ms", "% of a core", "MiB", "kB", "%", "values"]

SCALED: frozenset[Unit] = frozenset({"µs", "ms", "% of a core"})
"""Time on a processor: half as fast a machine needs twice as much."""


@dataclass(frozen=True, slots=True)
class Goal:
    """One row.

    Attributes:
        what: Is measured, in words.
        limit: The largest value that reaches the goal.
        unit: Of the limit; `x` is a ratio to the peer.
        peer: What it is measured beside.
    """

    what: str
    limit: float
    unit: Unit = "x"
    peer: str = ""


_PROMETHEUS = "prometheus-fastapi-instrumentator"
_NATIVE = "FastAPI's own telemetry, spans alone"
_CONTRIB = "opentelemetry-instrumentation-pymongo, spans"
_BARE = "bare application"


_WELL = "nothing fails"

GOALS = {
    "requests.embedded.40": Goal("a request at 40 routes, embedded default: added", 0.3, peer=_PROMETHEUS),
    "requests.embedded.300": Goal("a request at 300 routes, embedded default: added", 0.25, peer=_PROMETHEUS),
    "requests.traces": Goal("a request, traces over OTLP: added", 0.7, peer=_NATIVE),
    "requests.full": Goal("a request, traces and metrics over OTLP: added", 0.9, peer=_NATIVE),
    "requests.rules": Goal("a request with the default rules", 1.05, peer="every rule removed"),
    "growth.embedded": Goal("added at 300 routes, embedded default", 1.1, peer="10 routes, grown as FastAPI's own"),
    "growth.traces": Goal("added at 300 routes, traces over OTLP", 1.1, peer="10 routes, grown as FastAPI's own"),
    "mongodb.metrics": Goal("`find_one`, metrics: added", 45, "µs", "no listeners"),
    "mongodb.metrics.async": Goal("`find_one` of `AsyncMongoClient`, metrics: added", 45, "µs", "no listeners"),
    "mongodb.floor": Goal("`find_one`, metrics: added", 18, "µs", "listeners that do nothing"),
    "mongodb.floor.async": Goal(
        "`find_one` of `AsyncMongoClient`, metrics: added", 18, "µs", "listeners that do nothing"
    ),
    # The SDK's span alone is 0.85 to 0.9: with it there is no room for metrics. Ours is written down when it ends; what
    # the driver takes to tell of commands and of its pool, a third of what contrib adds, nobody can spare.
    "mongodb.spans": Goal("`find_one`, metrics and spans: added", 0.8, peer=_CONTRIB),
    "mongodb.spans.async": Goal("`find_one` of `AsyncMongoClient`, metrics and spans: added", 0.8, peer=_CONTRIB),
    "routes.cost": Goal("a request that sends five commands: added", 3, "%", "which request sends which is not known"),
    "routes.unnamed": Goal("seeded faults of routes (N+1, slow, scans, hot, retries) that are not named", 5, "%"),
    "traced.alone": Goal("`traced`, no exporter: added", 3, "µs", "undecorated"),
    "traced.spans": Goal("`traced`, span: added", 1.2, peer="`Tracer.start_as_current_span`"),
    "traced.exported": Goal("`traced`, span and duration: added", 1.2, peer="the same by hand"),
    "start.instrument": Goal("`instrument(app)` and the lifespan: CPU added until the first answers", 150, "ms", _BARE),
    "start.check": Goal("`otel-monitoring check`, the whole process", 120, "ms"),
    "idle.cpu": Goal("an idle service, OTLP and everything configured", 0.2, "% of a core"),
    "idle.memory": Goal("its memory: added", 18, "MiB", _BARE),
    "idle.memory.ours": Goal("its memory: added", 7, "MiB", "the SDK and its OTLP exporters alone"),
    "idle.ticks": Goal("its memory after a week of ticks: grown", 1, "MiB"),
    # What it adds to the bare application is mostly the SDK's: the idle goal, 18 MiB, has 7 for what is ours. Here come
    # the windows of 300 routes.
    "memory.requests": Goal(
        "memory after many requests over 300 routes, OTLP: added",
        10,
        "MiB",
        "FastAPI's own telemetry, traces and metrics",
    ),
    "memory.flat": Goal("memory over as many requests again: grown", 1, "MiB", _BARE),
    "memory.hostile": Goal("memory over as many hostile requests: grown", 1, "MiB", _BARE),
    "memory.million": Goal("memory after 1,000,000 requests: grown since the first 300,000", 1, "MiB"),
    "answers.health": Goal("`/api/health`", 1.2, peer="an empty route of the same application"),
    "answers.health.bare": Goal("`/api/health`", 1.2, peer="an empty route of the bare application"),
    "answers.diagnostics": Goal("diagnostics, 300 routes x 5 statuses", 25, "ms"),
    "answers.flooded": Goal("the same, 75,000 requests after the last answer", 25, "ms"),
    "answers.again": Goal("the same, right after an answer", 5, "ms"),
    "answers.lag": Goal("its application's loop lags meanwhile: added", 5, "ms", "nothing is asked"),
    "answers.poll": Goal("a poll of `/api/health/metrics`: the application's loop", 1, "ms"),
    "alerts.rules": Goal("evaluating 50 rules over 300 endpoints", 3, "ms"),
    "quantiles.error": Goal("largest error of p50, p95 and p99", 2.5, "%", "exact percentiles"),
    "quantiles.counts": Goal("values a window counts too many or too few", 0, "values"),
    "service.publish": Goal("publishing 300 routes x 5 statuses, a sample interval and worker", 10, "ms"),
    "service.merge": Goal("adding up what eight such workers published", 25, "ms"),
    "service.file": Goal("the file of eight such workers", 20, "MiB"),
    "history.growth": Goal("a snapshot added to the history, 10,000 series known", 3, peer="100 series known"),
    "evidence.missed": Goal("faults whose cause the alert does not name first, of ten", 1, "values"),
    "past.tick": Goal("the slices of the past, 100 routes, 1,000 requests a second: a tick of ten seconds", 5, "ms"),
    "past.objectives": Goal("two objectives and one for each of 100 routes, 30 days: a tick of ten seconds", 5, "ms"),
    "past.size": Goal("the slices of the past in SQLite, 100 routes for 30 days", 28.6, "MiB"),
    "past.documents": Goal("the same in MongoDB, where a slice has no more routes", 38.1, "MiB"),
    "page.cpu": Goal("five open status pages, 300 routes: added", 1, "% of a core", "no page"),
    "page.update": Goal("an update of the page, 300 routes", 20, "kB"),
    "page.first": Goal("its first update, with gzip", 20, "kB"),
    "page.document": Goal("the page itself, with gzip", 60, "kB"),
    # Acknowledged data outlives a crash. With its queue on disk a Collector that redacts nothing is at 1.1 already,
    # whatever the settings. A throughput of 0.8 is reached with queues in memory.
    "collector.saturated": Goal("the Collector's configuration, saturated: CPU time", 2, peer="a bare Collector"),
    "collector.saturated.memory": Goal("the same, queues in memory: CPU time", 1.25, peer="a bare Collector"),
    "collector.services": Goal(
        "the Collector's configuration and two services that send to it: CPU time", 1.15, peer="a bare Collector"
    ),
    # Four connections that ask without pause keep the service busy all the time: what an answer costs is what the next
    # ones wait for, so these two are as far from 1 as the CPU time of an answer is.
    "load.embedded": Goal("p99 under full load, embedded default", 1.3, peer="without otel_monitoring"),
    "load.exporting": Goal("p99 under full load, all signals over OTLP", 2, peer="without otel_monitoring"),
    "load.refused": Goal("p99 under full load, the Collector refuses connections", 1.1, peer=_WELL),
    "load.silent": Goal("p99 under full load, the Collector neither accepts nor refuses", 1.1, peer=_WELL),
    "load.database": Goal("p99 under full load, the database is dead", 1.1, peer=_WELL),
    "load.mail": Goal("p99 under full load, the SMTP server accepts and hangs", 1.1, peer=_WELL),
    "load.store": Goal("p99 under full load, the store's disk is full", 1.1, peer=_WELL),
}


def section_of(key: str) -> str:
    """The section that measures a row."""
    return key.partition(".")[0]
