"""`ServiceView`: the service as Prometheus has it at one moment, in the form in which a process has itself."""

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from otel_monitoring import semconv as c
from otel_monitoring.config.settings import Thresholds
from otel_monitoring.health import status
from otel_monitoring.metrics.snapshot import Histogram, Series, Snapshot
from otel_monitoring.metrics.window import History
from otel_monitoring.prometheus.client import Connection, no_samples
from otel_monitoring.prometheus.decoding import bound_of, classic_histogram, native_histogram, number_of
from otel_monitoring.prometheus.questions import OF_PROCESSES, Gauges, Questions, attributes_of, histogram_series
from otel_monitoring.semconv import prometheus_label, prometheus_name
from otel_monitoring.timestamps import rfc3339

_COUNTERS_LIMIT = 30
_GAUGES_LIMIT = 50
_MIB = 1024 * 1024
_SETTLED_SECONDS = 3.0
"""Seconds after which Prometheus has what was exported: Collectors batch for a second."""
_CHECK_NAME, _CHECK_CRITICAL = prometheus_label(c.CHECK_NAME), prometheus_label(c.CHECK_CRITICAL)


@dataclass(frozen=True, slots=True)
class ServiceView:
    """The service at one moment.

    Attributes:
        at: The moment, in Unix seconds by Prometheus' clock.
        asked: When it was asked, likewise.
        since: From when its totals count, in Unix seconds by Prometheus' clock.
        history: Its totals and its recent window.
        states: What each process would say about itself, by `service.instance.id`: see `HealthAnswers.own_state`.
        ages: How old each of these is, in seconds.
    """

    at: float
    asked: float
    since: float
    history: History
    states: Mapping[str, Mapping[str, Any]]
    ages: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Application:
    """The application's own metrics that this process knows.

    Attributes:
        counters: The units of its counters, by name.
        gauges: The units of its gauges, by name.
        attributes: The attributes of both by their labels in Prometheus.
    """

    counters: Mapping[str, str]
    gauges: Mapping[str, str]
    attributes: Mapping[str, str]

    @classmethod
    def of(cls, history: History, units: Mapping[str, str]) -> "Application":
        """Those in a history.

        Args:
            history: What this process measured.
            units: The units of the application's metrics, by name.
        """
        gauges = [series for series in history.gauges if series.name in units]
        others = {one.name for one in gauges}
        counters = {n: u for n, u in units.items() if n not in others and not history.total.histograms(n)}
        series = [one for name in counters for one, _ in history.total.sums(name)] + gauges
        names = {prometheus_label(key): key for one in series for key, _ in one.attributes}
        return cls(counters, {one.name: units[one.name] for one in gauges}, names)


def beginning(now: float, span: float) -> float:
    """From when totals count: the last but one multiple of `span`, so that they do not go back with every second."""
    return (math.floor(now / span) - 1) * span


def moment(now: float, interval: float) -> float:
    """The moment of which all processes ask in an interval: so the next answer of another one does not go back."""
    return math.floor((now - _SETTLED_SECONDS) / interval) * interval


def next_moment(now: float, interval: float) -> float:
    """When the moment after that of `now` is asked for."""
    return moment(now, interval) + interval + _SETTLED_SECONDS


async def read_view(
    connection: Connection,
    questions: Questions,
    application: Application,
    thresholds: Thresholds,
    *,
    span: float,
    interval: float,
) -> ServiceView:
    """Ask for everything.

    Args:
        connection: Where to ask.
        questions: What to ask.
        application: The application's own metrics.
        thresholds: From which a process is degraded.
        span: Seconds; totals count since one to two of these before now.
        interval: Seconds between two moments: see `moment`.

    Raises:
        PrometheusError: There is no usable answer.
    """
    asked = await connection.now()
    now = moment(asked, interval)
    since = beginning(now, span)
    counters = dict(list(application.counters.items())[:_COUNTERS_LIMIT])
    total, recent, by_instance, (states, ages) = await asyncio.gather(
        _snapshot(connection, questions, counters, application.attributes, now - since, now),
        _snapshot(connection, questions, counters, application.attributes, questions.window, now),
        connection.query(questions.requests_by_instance(), now),
        _processes(connection, questions, application, thresholds, now),
    )
    for sample in by_instance:
        state = states.get(sample["metric"].get("instance", ""))
        if state is not None:
            state["requests_per_second"] = round(number_of(sample) or 0.0, 2)
    ran = max([state["uptime_seconds"] + ages[name] for name, state in states.items()], default=questions.window)
    recent = Snapshot(now - min(questions.window, ran), now, recent.histograms, recent.sums)
    history = History.restored(total, recent, (), span=questions.window, resolution=questions.window)
    return ServiceView(now, asked, since, history, states, ages)


async def _snapshot(
    connection: Connection,
    questions: Questions,
    counters: Mapping[str, str],
    names: Mapping[str, str],
    seconds: float,
    now: float,
) -> Snapshot:
    """What was counted in the last `seconds`."""
    requests, work = questions.requests(seconds), questions.database_work(seconds)
    asked = [*requests, *work, *(questions.counter(name, unit, seconds) for name, unit in counters.items())]
    answers = await asyncio.gather(*(connection.query(one, now) for one in asked))
    histograms = _histograms(*answers[: len(requests)]) | _histograms(*answers[len(requests) :][: len(work)])
    sums: dict[Series, float] = {}
    for name, samples in zip(counters, answers[len(asked) - len(counters) :], strict=True):
        for sample in samples:
            labels = {label: names.get(label, label) for label in sample["metric"]}
            if value := number_of(sample):
                sums[Series(name, attributes_of(sample["metric"], labels))] = value
    return Snapshot(now - seconds, now, histograms, sums)


def _histograms(
    samples: Iterable[Mapping[str, Any]], sums: Iterable[Mapping[str, Any]] | None = None
) -> dict[Series, Histogram]:
    """Native histograms, or those of buckets and sums."""
    if sums is None:
        native = ((histogram_series(sample["metric"]), native_histogram(sample)) for sample in samples)
        return {series: histogram for series, histogram in native if histogram is not None and histogram.count}
    below: dict[Series, dict[float, float]] = {}
    for sample in samples:
        below.setdefault(histogram_series(sample["metric"]), {})[bound_of(sample["metric"])] = number_of(sample) or 0.0
    totals = {histogram_series(sample["metric"]): number_of(sample) or 0.0 for sample in sums}
    found = {series: classic_histogram(values, totals.get(series, 0.0)) for series, values in below.items()}
    return {series: histogram for series, histogram in found.items() if histogram.count}


async def _processes(
    connection: Connection, questions: Questions, application: Application, thresholds: Thresholds, now: float
) -> tuple[dict[str, dict[str, Any]], dict[str, float]]:
    """What each process would say about itself, and how old that is."""
    named = list(application.gauges.items())[:_GAUGES_LIMIT]
    names = {
        prometheus_name(name, unit, gauge=is_gauge): name  # the others are up-down counters
        for name, unit in named
        for is_gauge in (True, False)
    }
    values, reported, gauges = await asyncio.gather(
        connection.query(questions.processes(), now),
        connection.query(questions.reported(), now),
        connection.query(questions.named(names), now) if names else no_samples(),
    )
    seen = {sample["metric"].get("instance", ""): number_of(sample) for sample in reported}
    by_instance: dict[str, list[Mapping[str, Any]]] = {}
    for sample in values:
        by_instance.setdefault(sample["metric"].get("instance", ""), []).append(sample)
    own: dict[str, list[dict[str, Any]]] = {}
    for sample in gauges:
        labels = {
            application.attributes.get(label, label): text
            for label, text in sample["metric"].items()
            if label not in OF_PROCESSES and label != "__name__"
        }
        gauge = {"name": names.get(sample["metric"].get("__name__", ""), ""), "attributes": labels}
        own.setdefault(sample["metric"].get("instance", ""), []).append({**gauge, "value": number_of(sample)})
    ages = {name: max(0.0, now - at) for name, at in seen.items() if name and at is not None}
    counters = sorted(application.counters)
    states = {
        name: {
            **_state(name, by_instance.get(name, ()), now - age, thresholds),
            "gauges": own.get(name, []),
            "counters": counters,
        }
        for name, age in ages.items()
    }
    return states, ages


def _state(name: str, samples: Sequence[Mapping[str, Any]], reported: float, thresholds: Thresholds) -> dict[str, Any]:
    values: dict[str, list[float]] = {}
    checks: dict[str, tuple[bool, bool]] = {}
    info: Mapping[str, str] = {}
    for sample in samples:
        labels, value = sample["metric"], number_of(sample)
        metric = labels.get("__name__", "")
        if metric == Gauges.TARGET:
            info = labels
        elif value is not None:
            values.setdefault(metric, []).append(value)
            if metric == Gauges.CHECK:
                checks[labels.get(_CHECK_NAME, "")] = value > 0, labels.get(_CHECK_CRITICAL) == "true"
            info = info or labels

    def latest(metric: str, scale: float = 1.0, digits: int = 2) -> float | None:
        found = values.get(metric)
        return round(max(found) * scale, digits) if found else None

    ping, up = latest(Gauges.PING, 1000.0), min(values.get(Gauges.UP, ()), default=None)
    facts = _facts(latest, checks, up, ping, thresholds)
    found, reasons = status.status(facts, thresholds)
    uptime = int(latest(Gauges.UPTIME) or 0)
    return {
        "number": reported,
        "instance_id": name,
        "host": info.get("host_name"),
        "pid": _whole(info.get("process_pid")),
        "version": info.get("service_version", ""),
        "started_at": rfc3339(reported - uptime),
        "uptime_seconds": uptime,
        "status": found,
        "reasons": reasons,
        "requests_per_second": 0.0,
        "requests_in_flight": int(sum(values.get(Gauges.IN_FLIGHT, ()))),
        "database": {"status": facts.database or status.UNKNOWN, "response_time_ms": ping},
        "checks": {
            check: status.UNHEALTHY if failing else status.HEALTHY for check, (failing, _) in sorted(checks.items())
        },
        "event_loop": {"lag_seconds": None, "max_lag_seconds": latest(Gauges.LOOP_LAG, digits=6), "stalled": False},
        "system": {
            "cpu_percent": latest(Gauges.CPU, 100.0),
            "process_cpu_percent": latest(Gauges.PROCESS_CPU, 100.0),
            "memory_mb": latest(Gauges.PROCESS_MEMORY, 1 / _MIB),
            "memory_percent": latest(Gauges.MEMORY, 100.0),
        },
        "pool": None,
    }


def _facts(
    latest: Any, checks: Mapping[str, tuple[bool, bool]], up: float | None, ping: float | None, thresholds: Thresholds
) -> status.ServiceFacts:
    problem = None
    if latest(Gauges.ERROR):
        problem = "database answers with an error"
    elif latest(Gauges.POOL_WAIT):
        problem = "no free database connection"
    elif ping is not None and ping > thresholds.database_response_time_ms:
        problem = f"database is slow: {ping:.0f} ms"
    database = None if up is None else status.UNHEALTHY if up < 1 else status.DEGRADED if problem else status.HEALTHY
    cpu, memory = latest(Gauges.CPU_PRESSURE, 100.0), latest(Gauges.MEMORY_PRESSURE, 100.0)
    return status.ServiceFacts(
        database=database,
        database_problem=problem,
        critical_failures=[check for check, (failing, critical) in checks.items() if failing and critical],
        failures=[check for check, (failing, critical) in checks.items() if failing and not critical],
        cpu_percent=[cpu] * status.MIN_SAMPLES if cpu is not None else (),
        memory_percent=[memory] * status.MIN_SAMPLES if memory is not None else (),
    )


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
