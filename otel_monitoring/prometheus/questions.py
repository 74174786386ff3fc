"""`Questions`: what is asked of Prometheus about one service, in PromQL that the rules' `Dialect` writes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from otel_monitoring import semconv as c
from otel_monitoring.alerts.rules.matchers import quoted
from otel_monitoring.alerts.rules.promql import Dialect, prometheus_duration
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.export import rule_promql
from otel_monitoring.export.options import ENVIRONMENT, INSTANCE, JOB
from otel_monitoring.metrics.snapshot import Series
from otel_monitoring.semconv import prometheus_label, prometheus_name

REQUEST_LABELS: Final = {
    prometheus_label(key): key
    for key in (c.ERROR_TYPE, c.HTTP_REQUEST_METHOD, c.HTTP_RESPONSE_STATUS_CODE, c.HTTP_ROUTE)
}
"""The attributes of requests that the answers tell apart, by their labels."""
_OF_REQUEST = (c.HTTP_REQUEST_METHOD, c.HTTP_ROUTE)
_OF_OPERATION = (c.OPERATION_NAME,)
_DATABASE_WORK: Final[Mapping[c.Durations, tuple[str, ...]]] = {
    c.COMMANDS_OF_REQUESTS: _OF_REQUEST,
    c.DATABASE_TIMES_OF_REQUESTS: _OF_REQUEST,
    c.COMMANDS_OF_OPERATIONS: _OF_OPERATION,
    c.DATABASE_TIMES_OF_OPERATIONS: _OF_OPERATION,
    c.OPERATION_DURATIONS: _OF_OPERATION,
}
"""What requests and operations do with the database, with the attributes that tell them apart."""
_METRIC: Final = "otel_monitoring_metric"
"""The label of an answer that says which of these a series is of: they are one question."""
_LABELS: Final = {
    c.HTTP_SERVER_REQUEST_DURATION: REQUEST_LABELS,
    **{kind.name: {prometheus_label(key): key for key in keys} for kind, keys in _DATABASE_WORK.items()},
}
OF_PROCESSES: Final = (
    *(INSTANCE, JOB, ENVIRONMENT),
    *("service_name", "service_namespace", "service_version", "service_instance_id", "host_name"),
    *("otel_scope_name", "otel_scope_version", "otel_scope_schema_url"),
)
"""Labels that say which process measured, and the scope: left out where those of all processes are one."""
_DURATIONS: Final = prometheus_name(c.HTTP_SERVER_REQUEST_DURATION, "s")
_LATEST = "ALERTS|ALERTS_FOR_STATE|otel_monitoring:.+"


@dataclass(frozen=True, slots=True)
class Service:
    """Which series are the service's.

    Attributes:
        job: Its label `job`: `service.namespace/service.name`, or the name alone.
        environment: `deployment.environment.name`; empty: every environment.
    """

    job: str
    environment: str = ""

    @property
    def selector(self) -> str:
        """The label matchers. Prometheus may not promote the environment: series without it count."""
        environment = f",{ENVIRONMENT}=~{quoted(f'|{_literal(self.environment)}')}" if self.environment else ""
        return f"{JOB}={quoted(self.job)}{environment}"


class Gauges:
    """The names in Prometheus of the gauges that say how each process is."""

    UPTIME: Final = prometheus_name(c.PROCESS_UPTIME, "s", gauge=True)
    PROCESS_CPU: Final = prometheus_name(c.PROCESS_CPU_UTILIZATION, "1", gauge=True)
    PROCESS_MEMORY: Final = prometheus_name(c.PROCESS_MEMORY_USAGE, "By")
    CPU: Final = prometheus_name(c.SYSTEM_CPU_UTILIZATION, "1", gauge=True)
    MEMORY: Final = prometheus_name(c.SYSTEM_MEMORY_UTILIZATION, "1", gauge=True)
    CPU_PRESSURE: Final = prometheus_name(c.CPU_PRESSURE, "1", gauge=True)
    MEMORY_PRESSURE: Final = prometheus_name(c.MEMORY_PRESSURE, "1", gauge=True)
    LOOP_LAG: Final = prometheus_name(c.EVENT_LOOP_LAG, "s", gauge=True)
    UP: Final = prometheus_name(c.DATABASE_UP, "1", gauge=True)
    PING: Final = prometheus_name(c.DATABASE_PING_DURATION, "s", gauge=True)
    ERROR: Final = prometheus_name(c.DATABASE_ERROR, "1", gauge=True)
    POOL_WAIT: Final = prometheus_name(c.DATABASE_POOL_WAIT, "s", gauge=True)
    CHECK: Final = prometheus_name(c.CHECK_FAILING, "1", gauge=True)
    IN_FLIGHT: Final = prometheus_name(c.HTTP_SERVER_ACTIVE_REQUESTS, "{request}")
    CONNECTIONS: Final = prometheus_name(c.DB_CLIENT_CONNECTION_COUNT, "{connection}")
    DOCUMENTS: Final = prometheus_name(c.COLLECTION_DOCUMENTS, "{document}", gauge=True)
    TARGET: Final = "target_info"
    OF_PROCESS: Final = (
        *(UPTIME, PROCESS_CPU, PROCESS_MEMORY, CPU, MEMORY, CPU_PRESSURE, MEMORY_PRESSURE, LOOP_LAG),
        *(UP, PING, ERROR, POOL_WAIT, CHECK, IN_FLIGHT, TARGET),
    )


@dataclass(frozen=True, slots=True)
class Questions:
    """The questions about one service.

    Attributes:
        service: The service.
        window: Seconds of the recent window.
        native: Whether Prometheus has native histograms; False: `_bucket`, `_count` and `_sum`.
    """

    service: Service
    window: float
    native: bool = True

    @property
    def rules(self) -> Dialect:
        """How the rules are written: as exported, for this service alone."""
        span = prometheus_duration(self.window)
        return Dialect(by=(), span=span, native=self.native, selector=self.service.selector, from_zero=True)

    def _counted(self, seconds: float) -> Dialect:
        """How what was counted in the last `seconds` is written."""
        return self.rules._replace(span=prometheus_duration(seconds), growth="difference")

    def formats(self) -> str:
        """Which forms of the histogram of requests there are, as label `__name__`."""
        return f'group by (__name__) ({{__name__=~"{_DURATIONS}(_bucket)?",{self.service.selector}}})'

    def requests(self, seconds: float, route: str | None = None) -> tuple[str, ...]:
        """The requests of the last `seconds`: one question, or one for the buckets and one for the sum.

        Args:
            seconds: How far back.
            route: Those of one route; None: all.
        """
        where = "" if route is None else f"http_route={quoted('' if route == c.UNMATCHED_ROUTE else route)}"
        return self._counted(seconds).histogram_values(_DURATIONS, where, labels=tuple(REQUEST_LABELS))

    def database_work(self, seconds: float) -> tuple[str, ...]:
        """What requests and operations did with the database in the last `seconds`: questions as of requests."""
        counted = self._counted(seconds)
        by_metric = [
            [
                f'label_replace({expression}, "{_METRIC}", "{kind.name}", "", "")'
                for expression in counted.histogram_values(
                    prometheus_name(kind.name, kind.unit), labels=tuple(map(prometheus_label, keys))
                )
            ]
            for kind, keys in _DATABASE_WORK.items()
        ]
        return tuple(" or ".join(parts) for parts in zip(*by_metric, strict=True))

    def running(self) -> str:
        """How many processes run."""
        return f"count({self.rules.select(Gauges.UPTIME)})"

    def together(self, aggregate: str, name: str, *matchers: str, by: str = "") -> str:
        """A gauge of all processes as one value, or as one for each value of the label `by`."""
        return self.rules.grouped(aggregate, self.rules.select(name, *matchers), by)

    def average(self, name: str, unit: str) -> str:
        """The average of one of the application's gauges, or of its up-down counters."""
        names = {prometheus_name(name, unit, gauge=True), prometheus_name(name, unit)}
        return f"avg({self.named(sorted(names))})"

    def requests_by_instance(self) -> str:
        """The requests of each process per second, in the window."""
        return self.rules._replace(growth="rate").histogram_count(_DURATIONS, labels=(INSTANCE,))

    def processes(self) -> str:
        """The latest gauges of each process."""
        return self.named(Gauges.OF_PROCESS)

    def reported(self) -> str:
        """When each process has last reported, in Unix seconds."""
        return f"max by ({INSTANCE}) (timestamp({self.rules.select(Gauges.UPTIME)}))"

    def named(self, names: Iterable[str]) -> str:
        """The latest values of all metrics of these names."""
        return f'{{__name__=~"{"|".join(names)}",{self.service.selector}}}'

    def counter(self, name: str, unit: str, seconds: float) -> str:
        """The increase of one of the application's counters, of all processes together."""
        dialect = self._counted(seconds)
        return dialect.summed(dialect.increase(prometheus_name(name, unit, monotonic=True)), *OF_PROCESSES)

    # Rules

    def latest(self) -> str:
        """Which alerts are pending and fire, since when, and the recorded value of each rule."""
        return f'{{__name__=~"{_LATEST}",{self.service.selector}}}'

    def value(self, rule: Rule) -> str:
        """The present value of a rule, without regard to the number of measurements."""
        return rule.expression.promql(rule_promql.dialect_of(rule, self.rules))

    def samples(self, rule: Rule) -> str | None:
        """The number of measurements behind it; None: nobody knows."""
        return rule_promql.samples(rule, self.rules)


def histogram_series(labels: Mapping[str, str]) -> Series:
    """The series of a histogram with these labels, as this process would have it."""
    name = labels.get(_METRIC, c.HTTP_SERVER_REQUEST_DURATION)
    return Series(name, attributes_of(labels, _LABELS[name]))


def attributes_of(labels: Mapping[str, str], names: Mapping[str, str]) -> tuple[tuple[str, str | int], ...]:
    """The attributes of a series, sorted, as this process would have them.

    Args:
        labels: Its labels.
        names: The attributes to take, by label.
    """
    found: list[tuple[str, str | int]] = []
    for label, name in names.items():
        text = labels.get(label)
        if text:
            found.append((name, int(text) if name == c.HTTP_RESPONSE_STATUS_CODE and text.isdecimal() else text))
    return tuple(sorted(found))


def _literal(text: str) -> str:
    return "".join(f"\\{sign}" if sign in r"\.+*?()|[]{}^$" else sign for sign in text)
