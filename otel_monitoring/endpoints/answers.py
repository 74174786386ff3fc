"""`HealthAnswers`: the JSON of the health endpoints, made from the latest results."""

import os
import time
from collections.abc import Callable, Mapping
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_monitoring import seams
from otel_monitoring.alerts.evaluation.worker_report import INTERVAL
from otel_monitoring.alerts.manager import AlertManager
from otel_monitoring.alerts.notify.origin import Origin
from otel_monitoring.config.settings import Thresholds
from otel_monitoring.guard import fail_open
from otel_monitoring.health import application_metrics, status
from otel_monitoring.health.checks import Checks
from otel_monitoring.health.database import DatabaseHealthChecker
from otel_monitoring.health.errors import errors_as_json, failures
from otel_monitoring.health.instances import Instances, SeenInstance, block_of, reasons_of, system_of
from otel_monitoring.health.performance_metrics import PerformanceMetrics
from otel_monitoring.health.readings import readings_of
from otel_monitoring.health.request_statistics import RequestStatistics
from otel_monitoring.instrumentation.system.sampler import SystemSampler
from otel_monitoring.metrics.aggregator import Aggregator
from otel_monitoring.metrics.database_work import DatabaseWork
from otel_monitoring.metrics.service_history import INSTANCE, SERVICE, Scope
from otel_monitoring.metrics.service_measurements import ServiceMeasurements
from otel_monitoring.metrics.slices.recorder import Readings
from otel_monitoring.metrics.window import Windows
from otel_monitoring.redact.json_text import json_text
from otel_monitoring.runtime.give_way import give_way
from otel_monitoring.semconv import DB_CLIENT_CONNECTION_COUNT, DB_CLIENT_CONNECTION_STATE
from otel_monitoring.telemetry.providers import Telemetry
from otel_monitoring.timestamps import rfc3339

if TYPE_CHECKING:
    from otel_monitoring.health.slice_metrics import Known


class Sources(NamedTuple):
    """Where the answers come from.

    Attributes:
        sample_interval: Seconds between two reports of this process.
        thresholds: Limits of CPU, memory and error rate beyond which the status is degraded.
        statistics: Counts requests and errors of a window.
        aggregator: The measurements of this process.
        service: Those of all processes of the service.
        instances: What the other processes say about themselves.
        performance: Request counts, times and errors.
        system: CPU and memory.
        database: The state of the database.
        checks: The results of the application's checks.
        telemetry: The state of exports.
        event_loop: Returns the figures of the application's event loop.
        alert_manager: Returns the alert manager whose alerts and deliveries are shown.
        started_at: Returns when this process started, in seconds of the monotonic clock; None before.
        troubles: Returns why the results may be out of date, given the monotonic time in seconds.
        in_flight: Returns the number of requests that this process is handling.
        origin: Returns the service's name, version, environment and host.
        objectives: Returns every objective as JSON; None: nothing is known, or another process leads.
        blind: Returns every objective as JSON where nothing is known.
        routes: Returns what the routes of a scope do with the database, as JSON.
        work: Returns what requests and operations do with the database.
    """

    sample_interval: float
    thresholds: Thresholds
    statistics: RequestStatistics
    aggregator: Aggregator
    service: ServiceMeasurements
    instances: Instances
    performance: PerformanceMetrics
    system: SystemSampler
    database: DatabaseHealthChecker
    checks: Checks
    telemetry: Telemetry
    event_loop: Callable[[], dict[str, Any]]
    alert_manager: Callable[[], AlertManager]
    started_at: Callable[[], float | None]
    troubles: Callable[[float], list[str]]
    in_flight: Callable[[], int]
    origin: Callable[[], Origin]
    objectives: Callable[[], list[dict[str, Any]] | None]
    blind: Callable[[], list[dict[str, Any]]]
    routes: Callable[[Scope], dict[str, Any]]
    work: Callable[[], tuple[DatabaseWork, Windows]]


class HealthAnswers:
    """Makes answers and measures nothing: the background thread keeps the results up to date.

    Each answer is about the service, or with the scope `instance` about this process alone.

    Args:
        sources: Where they come from.
    """

    def __init__(self, sources: Sources) -> None:
        self._from = sources
        self._numbers = count(1)

    def answer(self, what: str, scope: Scope = SERVICE, alerting: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The answer of a private endpoint.

        Args:
            what: `detailed`, `metrics`, `diagnostics`, `errors` or `objectives`.
            scope: `service`, or `instance` for this process alone.
            alerting: What the diagnostics say about alerts; None: read here, which waits for the store.
        """
        if what == "objectives":
            return self.objectives()
        if what == "errors":
            return self.errors()
        if what == "metrics":
            return self.metrics(scope)
        if what == "diagnostics":
            return self._diagnostics(scope, self._from.performance.endpoints_of(scope), alerting)
        return self.detailed(scope)

    def rendered(self, what: str, scope: Scope = SERVICE, alerting: Mapping[str, Any] | None = None) -> bytes:
        """`answer` as JSON, written piece by piece: the encoder of a large answer would hold up every other thread."""
        endpoints: str | None = None
        if what == "diagnostics":
            endpoints = self._from.performance.endpoints_json(scope)
            answer = self._diagnostics(scope, None, alerting)
        else:
            answer = self.answer(what, scope)
        pieces = []
        for key, value in answer.items():
            give_way()
            text = endpoints if endpoints is not None and key == "endpoints" else json_text(value)
            pieces.append(f"{json_text(key)}: {text}")
        return f"{{{', '.join(pieces)}}}".encode()

    def basic(self, scope: Scope = SERVICE) -> dict[str, Any]:
        """The answer of `/health`: `status`, `timestamp`, `uptime_seconds`."""
        return status.basic(self._status(scope)[0], now=self._now(), uptime=self._uptime())

    def metrics(self, scope: Scope = SERVICE) -> dict[str, Any]:
        """The answer of `/health/metrics`: requests, durations and errors."""
        others = self._others(scope)
        in_flight = self._from.in_flight() + sum(_number(other, "requests_in_flight") for other in others)
        about = self._about(scope)
        whose = {"last_error_scope": INSTANCE} if self._own_details(about) else {}
        return {**self._from.performance.summary(scope), **whose, "requests_in_flight": in_flight, **about}

    def detailed(self, scope: Scope = SERVICE) -> dict[str, Any]:
        """The basic answer and `reasons`, `database`, `system`, `performance`, `instances`."""
        others, own = self._others(scope), self.own_state()
        system = system_of([own["system"], *(block_of(other.state, "system") for other in others)])
        return {**self._glance(scope, others, own), "system": system, "performance": self.metrics(scope)}

    def glance(self) -> dict[str, Any]:
        """The detailed answer without `system` and `performance`, whose totals take time."""
        return self._glance(SERVICE, self._others(SERVICE), self.own_state())

    def _glance(self, scope: Scope, others: list[SeenInstance], own: dict[str, Any]) -> dict[str, Any]:
        service_status, reasons = self._status(scope)
        uptime = max([self._uptime(), *(_number(other, "uptime_seconds") + other.age for other in others)])
        return {
            **status.basic(service_status, now=self._now(), uptime=uptime),
            "reasons": reasons,
            "database": self._from.database.as_json(self._now()),
            **self._about(scope),
            "service": self._identity(),
            "instances": [self._own_instance(own).as_json(), *(other.as_json() for other in others)],
        }

    def _diagnostics(self, scope: Scope, endpoints: object, alerting: Mapping[str, Any] | None) -> dict[str, Any]:
        """The detailed answer and endpoints, alerts, checks, event loop, telemetry, broken seams and the worker."""
        sources = self._from
        detailed = self.detailed(scope)
        routes = {**sources.routes(scope), **self._own_details(detailed)}
        return {
            **detailed,
            "database": {**detailed["database"], "routes": routes},
            "endpoints": endpoints,
            "application": self._application(scope),
            **(alerting if alerting is not None else sources.alert_manager().diagnostics()),
            "checks": sources.checks.as_json(time.monotonic()),
            "event_loop": sources.event_loop(),
            "telemetry": sources.telemetry.state(time.monotonic()),
            "seams": seams.lost_seams(),
            "worker": {
                "pid": os.getpid(),
                "instance_id": self._instance_id(),
                "scope": "this worker process",
                "contained_failures": dict(fail_open.failures),
            },
        }

    def errors(self) -> dict[str, Any]:
        """The answer of `/health/errors`: the failed requests of the service in groups."""
        service, about = self._from.service, self._about(SERVICE)
        own = self._own_details(about)
        counts = failures(service.history.total, self._from.statistics) if own else None
        return {"errors": errors_as_json(service.errors.values(), self._now(), counts), **own, **about}

    def _own_details(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """Whose the details are, where Prometheus has the figures of the service and only those."""
        own = about["scope"] == SERVICE and not self._from.service.knows_errors
        return {"details_scope": INSTANCE} if own else {}

    def database_work(self) -> tuple[DatabaseWork, Windows]:
        """What requests and operations do with the database, and what was measured in the same processes."""
        return self._from.work()

    def objectives(self) -> dict[str, Any]:
        """The answer of `/health/objectives`: as the process that leads knows it."""
        found = self._from.objectives()
        if found is None:
            of_leader = [other.state.get("objectives") for other in self._others(SERVICE) if other.leads]
            found = next((each for each in of_leader if isinstance(each, list)), None)
        return {"objectives": self._from.blind() if found is None else found, "scope": SERVICE}

    def own_state(self) -> dict[str, Any]:
        """What this process says about itself: in `instances`, and to the other processes."""
        sources, origin = self._from, self._from.origin()
        own_status, reasons = self._status("instance")
        database = sources.database.as_json(self._now())
        loop, error = sources.event_loop(), sources.performance.error_seen()
        return {
            "number": next(self._numbers),
            INTERVAL: sources.sample_interval,
            "instance_id": self._instance_id(),
            "host": origin.host,
            "pid": os.getpid(),
            "version": origin.version,
            "started_at": rfc3339(self._now() - self._uptime()),
            "uptime_seconds": int(self._uptime()),
            "status": own_status,
            "reasons": reasons,
            "requests_per_second": sources.statistics.rate(sources.aggregator.history.recent),
            "requests_in_flight": sources.in_flight(),
            "last_error": error.text if error is not None else None,
            "last_error_time": rfc3339(error.time) if error is not None else None,
            "database": {key: database[key] for key in ("status", "response_time_ms", "error") if key in database},
            "checks": {name: check["status"] for name, check in sources.checks.as_json(time.monotonic()).items()},
            "event_loop": {key: loop.get(key) for key in ("lag_seconds", "max_lag_seconds", "stalled")},
            "system": sources.system.summary(),
            "gauges": self._own_gauges(),
            "pool": self._connections_in_use(),
            "objectives": sources.objectives(),
        }

    def readings(self) -> Readings:
        """The gauges of all processes, for the slices of the past."""
        states = [self.own_state(), *(other.state for other in self._others(SERVICE))]
        return readings_of(states, self._from.database.as_json(self._now())["collections"])

    def known(self) -> "Known":
        """The metrics of the application and the endpoints that are known, for answers about the past."""
        from otel_monitoring.health.slice_metrics import Known

        return Known(self._own_names().union(self._from.service.metrics), tuple(self._from.performance.endpoints))

    # What an answer is about

    def _about(self, scope: Scope) -> dict[str, Any]:
        service = self._from.service
        problem = service.problem if scope == SERVICE else None
        incomplete = {"incomplete": problem} if problem is not None else {}
        if scope == SERVICE and service.joined:
            return {"scope": scope, "since": rfc3339(service.since), **incomplete}
        # Until it knows of the others, a process is the service; where they cannot be asked, it is itself.
        return {
            "scope": INSTANCE if incomplete else scope,
            "since": rfc3339(self._now() - self._uptime()),
            **incomplete,
        }

    def _now(self) -> float:
        """Unix seconds, as all processes of the service have them."""
        return self._from.alert_manager().clock()

    def _identity(self) -> dict[str, Any]:
        origin = self._from.origin()
        return {
            "name": origin.service,
            "version": origin.version,
            "environment": origin.environment,
            "host": origin.host,
        }

    def _instance_id(self) -> str:
        return self._from.telemetry.instance_id

    def _uptime(self) -> float:
        started = self._from.started_at()
        return time.monotonic() - started if started is not None else 0.0

    def _others(self, scope: Scope) -> list[SeenInstance]:
        # Prometheus knows it by what it exports.
        own = {self._instance_id(), self._from.telemetry.resource.attributes.get("service.instance.id")}
        known = scope == SERVICE and self._from.service.joined
        others = self._from.instances.others(time.monotonic()) if known else []
        return [other for other in others if other.id not in own]

    def _own_instance(self, state: dict[str, Any]) -> SeenInstance:
        instance = self._instance_id()
        return SeenInstance(instance, state, 0.0, self._from.instances.leads(instance))

    def _connections_in_use(self) -> float | None:
        """The connections of this process that its commands hold; None: no pool is measured."""
        group = self._from.aggregator.history.gauges.group(DB_CLIENT_CONNECTION_COUNT)
        states = group.items() if group is not None else []
        used = [value for series, value in states if series.get(DB_CLIENT_CONNECTION_STATE) == "used"]
        return sum(used) if used else None

    # The application's own counters and gauges

    def _own_names(self) -> frozenset[str]:
        return frozenset(self._from.aggregator.reader.application)

    def _own_gauges(self) -> list[dict[str, Any]]:
        return application_metrics.gauges(self._own_names(), self._from.aggregator.history.gauges.items())

    def _application(self, scope: Scope) -> dict[str, Any]:
        others = self._others(scope)
        names = self._own_names().union(self._from.service.metrics)
        own = [{**gauge, "instance_id": self._instance_id()} for gauge in self._own_gauges()]
        theirs = [{**gauge, "instance_id": other.id} for other in others for gauge in other.state.get("gauges") or ()]
        return {
            "counters": application_metrics.counters(names, self._from.performance.history(scope)),
            "gauges": [*own, *theirs][: application_metrics.LIMIT],
        }

    # The status

    def _status(self, scope: Scope) -> tuple[str, list[str]]:
        """The status and the reasons for it.

        What this process sees itself, its database and its critical checks, decides whether it is unhealthy. What the
        service measured, and what other processes see, can degrade it.
        """
        own = self._facts(scope)
        found, reasons = status.status(own, self._from.thresholds)
        elsewhere = reasons_of(self._others(scope), reasons)
        if elsewhere and found == status.HEALTHY:
            found = status.DEGRADED
        return found, [*reasons, *elsewhere]

    def _facts(self, scope: Scope) -> status.ServiceFacts:
        sources, now = self._from, time.monotonic()
        critical, others = sources.checks.failing()
        requests, errors = sources.statistics.errors(sources.performance.history(scope).recent)
        samples = sources.system.recent(status.MIN_SAMPLES)
        return status.ServiceFacts(
            database=sources.database.status,
            database_problem=sources.database.problem,
            critical_failures=critical,
            failures=others,
            errors=sources.checks.errors(),
            troubles=sources.troubles(now),
            cpu_percent=[s.cpu_pressure for s in samples if s.cpu_pressure is not None],
            memory_percent=[s.memory_pressure for s in samples if s.memory_pressure is not None],
            cpu_scope=samples[-1].cpu_scope if samples else "",
            memory_scope=samples[-1].memory_scope if samples else "",
            requests=requests,
            error_rate=100.0 * errors / requests if requests else 0.0,
        )


def _number(other: SeenInstance, name: str) -> float:
    found = other.state.get(name)
    return found if isinstance(found, int | float) else 0
