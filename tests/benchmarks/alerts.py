"""What evaluating rules costs: 50 of them over 300 endpoints, with what follows for the alerts."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median

from opentelemetry.sdk.metrics import MeterProvider

from otel_monitoring import semconv as c
from otel_monitoring.alerts import Attribute, Count, Gauge, Quantile, Rule, error_rate, requests
from otel_monitoring.alerts.evaluation.evaluate import Evaluation
from otel_monitoring.alerts.evaluation.incident import labels_by_rule, saved_incidents
from otel_monitoring.alerts.evaluation.notification_policy import NotificationPolicy
from otel_monitoring.alerts.evaluation.transitions import Transitions
from otel_monitoring.alerts.evaluation.worker_report import WorkerReport
from otel_monitoring.alerts.rules.defaults import default_rules
from otel_monitoring.alerts.store import MemoryStore
from otel_monitoring.config.settings import Thresholds
from otel_monitoring.metrics.reader import SnapshotReader
from otel_monitoring.metrics.window import Window
from tests.benchmarks.figures import spread
from tests.benchmarks.report import Report as Printed

ROUTES, RULES = 300, 50
_WORKERS = 4
_EACH = 20
_SLOW = 3
_MILLI = 1e3
_POLICY = NotificationPolicy(("log",), repeat_interval=4 * 3600.0, window=300.0)


def rules() -> tuple[Rule, ...]:
    """The default rules, and those of a service that watches its busiest endpoints one by one."""
    latency = c.HTTP_SERVER_REQUEST_DURATION
    by_route = [
        Rule("route_errors", error_rate(group_by=c.HTTP_ROUTE), ">", 20, min_samples=20, label="endpoint"),
        Rule("route_slow", Quantile(latency, 0.5, group_by=c.HTTP_ROUTE), ">", 1.5, label="endpoint"),
        Rule("route_slowest", Quantile(latency, 0.99, group_by=c.HTTP_ROUTE), ">", 5, label="endpoint"),
        Rule("route_busy", requests(group_by=c.HTTP_ROUTE), ">", 10_000, label="endpoint"),
        Rule("route_rejects", requests(where=_status(404), group_by=c.HTTP_ROUTE), ">", 1000, label="endpoint"),
    ]
    one_route = [
        rule
        for i in range(10)
        for rule in (
            Rule(f"slow_{i}", Quantile(latency, 0.95, where=_route(i)), ">", 3, min_samples=20, hold=60),
            Rule(f"idle_{i}", requests(where=_route(i)), "<", 1, hold=120),
        )
    ]
    own = [Rule(f"failing_{i}", Count(f"orders.failed.{i}"), ">", 10) for i in range(6)]
    found = (*default_rules(Thresholds()), *by_route, *one_route, *own)
    left = range(RULES - len(found))
    return (*found, *(Rule(f"queue_{i}", Gauge(f"queue.{i}"), ">", 100, clear=80, keep_firing_for=60) for i in left))


def _status(*codes: int) -> Attribute:
    return Attribute(c.HTTP_RESPONSE_STATUS_CODE, codes)


def _route(number: int) -> Attribute:
    return Attribute(c.HTTP_ROUTE, f"/route/{number}")


def windows(*, slow: int) -> Callable[[], Window]:
    """Makes a window as the service does for each evaluation: over the same measurements, nothing worked out yet.

    Args:
        slow: How many endpoints are slower than any rule allows.
    """
    reader = SnapshotReader(0.0)
    provider = MeterProvider(shutdown_on_exit=False)
    provider.add_metric_reader(reader)
    meter = provider.get_meter("benchmark")
    durations = meter.create_histogram(c.HTTP_SERVER_REQUEST_DURATION, "s")
    for route in range(ROUTES):
        for status in (200, 404):
            attributes = {
                c.HTTP_REQUEST_METHOD: "GET",
                c.HTTP_ROUTE: f"/route/{route}",
                c.HTTP_RESPONSE_STATUS_CODE: status,
                c.NETWORK_PROTOCOL_VERSION: "1.1",
                c.URL_SCHEME: "http",
            }
            for i in range(_EACH):
                durations.record(10.0 if route < slow else 0.001 * 1.3**i, attributes)
    for i in range(6):
        meter.create_counter(f"orders.failed.{i}").add(1)
        meter.create_gauge(f"queue.{i}").set(10)
    for name, value in ((c.DATABASE_UP, 1), (c.SYSTEM_CPU_UTILIZATION, 0.2), (c.SYSTEM_MEMORY_UTILIZATION, 0.3)):
        meter.create_gauge(name).set(value)
    snapshot = reader.take(300.0)
    return lambda: Window(snapshot)


class Evaluator:
    """Evaluates as the leading worker does, against a store in memory."""

    def __init__(self) -> None:
        self.rules = rules()
        self.store = MemoryStore()
        self.evaluation = Evaluation()
        self.now = 1_700_000_000.0

    def evaluate(self, reports: Mapping[str, WorkerReport]) -> int:
        """One evaluation; returns how many alerts are pending or firing after it."""
        self.now += 10.0
        known = {incident.key: incident for incident in saved_incidents(self.store.incidents)}
        with self.store.exclusive():
            transitions = Transitions(self.store, _POLICY, self.now)
            transitions.apply(
                self.evaluation.evaluate(self.rules, reports, labels_by_rule(known.values())),
                known,
                reports,
                self.rules,
            )
        if self.evaluation.errors:
            raise RuntimeError(str(self.evaluation.errors))
        return len(self.store.incidents.saved())


def costs(reports: Iterator[Mapping[str, WorkerReport]], alerts: int) -> list[float]:
    """Milliseconds of CPU of the evaluations of `reports`, the first of which warms up.

    Args:
        reports: What each evaluation looks at.
        alerts: How many must be pending or firing after each: proof that the rules were evaluated.
    """
    evaluator, found = Evaluator(), []
    for number, look in enumerate(reports):
        began = time.thread_time()
        pending = evaluator.evaluate(look)
        if number:
            found.append((time.thread_time() - began) * _MILLI)
        if pending != alerts:
            raise RuntimeError(f"{pending} alerts instead of {alerts}")
    return found


def _alone(window: Callable[[], Window], rounds: int) -> Iterator[Mapping[str, WorkerReport]]:
    return ({"a": WorkerReport(window())} for _ in range(rounds + 1))


def _together(window: Callable[[], Window], rounds: int) -> Iterator[Mapping[str, WorkerReport]]:
    return ({str(worker): WorkerReport(window()) for worker in range(_WORKERS)} for _ in range(rounds + 1))


def _travelling(window: Callable[[], Window], rounds: int) -> tuple[list[float], list[float], int]:
    """Milliseconds of CPU to encode and to decode a worker's report, and its bytes."""
    metrics = {name for rule in rules() for name in rule.expression.metrics}
    encoding, decoding, size = [], [], 0
    for _ in range(rounds):
        report = WorkerReport(window())
        began = time.thread_time()
        data = report.encode(metrics)
        encoded = time.thread_time()
        WorkerReport.decode(data)
        decoding.append((time.thread_time() - encoded) * _MILLI)
        encoding.append((encoded - began) * _MILLI)
        size = len(data)
    return encoding, decoding, size


def run(report: Printed, rounds: int) -> None:
    """The section of the report."""
    report.section(
        f"Evaluating {RULES} rules over {ROUTES} endpoints",
        f"CPU of the background thread for one evaluation over {ROUTES} endpoints x 2 statuses, with what follows for "
        f"the alerts (store in memory); {rounds} evaluations. 'slow' endpoints are beyond four rules each. With "
        f"{_WORKERS} workers the leading one adds up everybody's measurements.",
    )
    quiet, busy = windows(slow=0), windows(slow=_SLOW)
    # Of each slow endpoint: p50, p95 and p99 by route; of the first ones also the rule of their own.
    alerts = 3 * _SLOW + min(_SLOW, 12)
    found = {
        "all is well": costs(_alone(quiet, rounds), 0),
        f"{_SLOW} slow endpoints": costs(_alone(busy, rounds), alerts),
        f"all is well, {_WORKERS} workers": costs(_together(quiet, rounds), 0),
    }
    encoding, decoding, size = _travelling(quiet, rounds)
    found |= {"a worker's report, written": encoding, "a worker's report, read": decoding}
    rows = [[name, *(f"{figure:.2f}" for figure in _figures(own))] for name, own in found.items()]
    report.table(("evaluation", "median ms", "± ms", "least ms"), rows)
    report.text(f"A worker's report has {size / 1024:.0f} kB.")
    report.figure("alerts.rules", median(found["all is well"]))


def _figures(values: Sequence[float]) -> tuple[float, float, float]:
    return median(values), spread(values), min(values)
