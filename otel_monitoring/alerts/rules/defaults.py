"""The default rules: the documented alert types with the documented thresholds."""

from dataclasses import replace

from otel_monitoring import semconv as c
from otel_monitoring.alerts.model import AlertSeverity, AlertType
from otel_monitoring.alerts.rules.by_group import by_group, of_groups
from otel_monitoring.alerts.rules.expressions import Count, Gauge, Quantile, error_rate, requests
from otel_monitoring.alerts.rules.indicators import FasterThan, Succeeded
from otel_monitoring.alerts.rules.matchers import Attribute
from otel_monitoring.alerts.rules.rule import NoData, Rule
from otel_monitoring.alerts.rules.slo import Slo
from otel_monitoring.config.settings import Settings, Thresholds

_MIN_REQUESTS = 20
_CAUSED_BY_DATABASE_DOWN = frozenset(
    {
        AlertType.DATABASE_SLOW,
        AlertType.DATABASE_ERROR,
        AlertType.DATABASE_POOL_EXHAUSTED,
        AlertType.HIGH_ERROR_RATE,
        AlertType.API_TIMEOUT,
        AlertType.ERROR_BUDGET,
    }
)


def default_rules(thresholds: Thresholds, error_statuses: frozenset[int] | None = None) -> tuple[Rule, ...]:
    """The rules that every service starts with.

    Args:
        thresholds: The thresholds, in the units that their names end with.
        error_statuses: Status codes that count as errors; None: every 5xx.
    """
    return (
        *_database_rules(thresholds),
        *_request_rules(thresholds, error_statuses),
        *_system_rules(thresholds),
        *_telemetry_rules(thresholds),
        *_check_rules(),
        *_business_rules(),
    )


def preset_slos(settings: Settings) -> tuple[Slo, ...]:
    """The objectives that every service starts with; those that no setting names are in a dry run.

    Raises:
        ConfigurationError: `slo_window` is not from 24h to 30d.
    """
    found = []
    for name, given, usual, good in (
        ("availability", settings.slo_availability, 99.9, Succeeded()),
        ("latency", settings.slo_latency, 99.0, FasterThan(settings.slo_latency_ms / 1000)),
    ):
        if given != "off":
            percent = usual if given is None else float(given)
            found.append(Slo(name, percent, good, window=settings.slo_window, dry_run=given is None))
    return tuple(found)


def usual_rules(settings: Settings) -> tuple[Rule, ...]:
    """The rules that a service starts with, those of its objectives included.

    Raises:
        ConfigurationError: `slo_window` is not from 24h to 30d.
    """
    statuses = settings.error_statuses
    of_slos = [rule for slo in preset_slos(settings) for rule in slo.rules(statuses)]
    return (*default_rules(settings.thresholds, statuses), *of_slos)


def _database_rules(thresholds: Thresholds) -> tuple[Rule, ...]:
    slow = thresholds.database_response_time_ms
    return (
        Rule(
            "database_down",
            Gauge(c.DATABASE_UP, "1", over="min"),
            "<",
            1,
            "Database connection lost",
            AlertType.DATABASE_DOWN,
            keep_firing_for=10,
            no_data=NoData.KEEP,
            inhibits=_CAUSED_BY_DATABASE_DOWN,
        ),
        Rule(
            "database_slow",
            Gauge(c.DATABASE_PING_DURATION, "s", scale=1000),
            ">",
            slow,
            "Slow database response: {value:.0f}ms",
            AlertType.DATABASE_SLOW,
            clear=0.8 * slow,
            no_data=NoData.KEEP,
        ),
        Rule(
            "database_pool_exhausted",
            Gauge(c.DATABASE_POOL_WAIT, "s"),
            ">",
            0,
            "No free database connection within {value:.2g} s",
            AlertType.DATABASE_POOL_EXHAUSTED,
            no_data=NoData.KEEP,
        ),
        Rule(
            "database_error",
            Gauge(c.DATABASE_ERROR, "1"),
            ">",
            0,
            "Database answers with an error",
            AlertType.DATABASE_ERROR,
            hold=30,  # the election of a new primary takes seconds
            no_data=NoData.KEEP,
        ),
    )


def _request_rules(thresholds: Thresholds, error_statuses: frozenset[int] | None) -> tuple[Rule, ...]:
    errors, slow = thresholds.error_rate_percent, thresholds.api_response_time_ms
    high_error_rate = Rule(
        "high_error_rate",
        error_rate(error_statuses),
        ">",
        errors,
        "High error rate: {value:.2f}%",
        AlertType.HIGH_ERROR_RATE,
        clear=0.8 * errors,
        min_samples=_MIN_REQUESTS,
    )
    of_endpoint = replace(
        high_error_rate,
        expression=error_rate(error_statuses, group_by=c.HTTP_ROUTE),
        message="High error rate: {endpoint} ({value:.2f}%)",
        label="endpoint",
    )
    api_timeout = Rule(
        "api_timeout",
        Quantile(c.HTTP_SERVER_REQUEST_DURATION, 0.95, scale=1000, group_by=c.HTTP_ROUTE),
        ">",
        slow,
        "Slow API response: {endpoint} ({value:.2f}ms)",
        AlertType.API_TIMEOUT,
        clear=0.8 * slow,
        min_samples=5,
        label="endpoint",
    )
    return (
        high_error_rate,
        *of_groups(of_endpoint, thresholds.error_rate_percent_by_endpoint),
        *by_group(api_timeout, thresholds.api_response_time_ms_by_endpoint),
        Rule(
            "security_alert",
            requests(where=Attribute(c.HTTP_RESPONSE_STATUS_CODE, (401, 403))),
            ">",
            thresholds.rejected_requests,
            "Unauthorized access: {value:.0f} requests rejected with 401 or 403",
            AlertType.SECURITY_ALERT,
        ),
        Rule(
            "wrong_admin_token",
            Count(c.WRONG_TOKENS, "{request}"),
            ">",
            thresholds.rejected_requests,
            "Unauthorized access: {value:.0f} requests refused for a wrong admin token",
            AlertType.SECURITY_ALERT,
        ),
    )


def _system_rules(thresholds: Thresholds) -> tuple[Rule, ...]:
    cpu, memory = thresholds.cpu_percent, thresholds.memory_percent
    return (
        Rule(
            "high_cpu",
            Gauge(c.CPU_PRESSURE, "1", scale=100, group_by=c.RESOURCE_SCOPE),
            ">",
            cpu,
            "High CPU usage of the {scope}: {value:.1f}%",
            AlertType.HIGH_CPU,
            hold=30,
            clear=0.9 * cpu,
            keep_firing_for=60,
            label="scope",
        ),
        Rule(
            "high_memory",
            Gauge(c.MEMORY_PRESSURE, "1", scale=100, group_by=c.RESOURCE_SCOPE),
            ">",
            memory,
            "High memory usage of the {scope}: {value:.1f}%",
            AlertType.HIGH_MEMORY,
            hold=30,
            clear=0.95 * memory,
            keep_firing_for=60,
            label="scope",
        ),
        Rule(
            "event_loop_blocked",
            Gauge(c.EVENT_LOOP_LAG, "s", scale=1000),
            ">",
            thresholds.event_loop_lag_ms,
            "Event loop blocked for {value:.0f}ms",
            AlertType.EVENT_LOOP_BLOCKED,
            scope="instance",
        ),
    )


def _telemetry_rules(thresholds: Thresholds) -> tuple[Rule, ...]:
    return (
        Rule(
            "telemetry_lost",
            Gauge(c.TELEMETRY_LOSS, "s"),
            ">",
            thresholds.telemetry_loss_seconds,
            "Telemetry has been lost for {value:.0f} s: exports fail, or a queue is full",
            AlertType.TELEMETRY_LOST,
            clear=0,
        ),
    )


def _check_rules() -> tuple[Rule, ...]:
    def rule(name: str, message: str, severity: AlertSeverity, *, critical: bool) -> Rule:
        failing = Gauge(c.CHECK_FAILING, "1", group_by=c.CHECK_NAME, where=Attribute(c.CHECK_CRITICAL, (critical,)))
        return Rule(name, failing, ">", 0, message, AlertType.CHECK_FAILED, severity, label="check")

    return (
        rule("critical_check_failed", "Critical check fails: {check}", AlertSeverity.CRITICAL, critical=True),
        rule("check_failed", "Check fails: {check}", AlertSeverity.WARNING, critical=False),
    )


def _business_rules() -> tuple[Rule, ...]:
    return (
        Rule(
            "billing_failure",
            Count(c.BILLING_FAILURES),
            ">",
            0,
            "Billing failed {value:.0f} times",
            AlertType.BILLING_FAILURE,
        ),
        Rule(
            "delivery_issue",
            Count(c.DELIVERY_FAILURES),
            ">",
            0,
            "Delivery confirmation failed {value:.0f} times",
            AlertType.DELIVERY_ISSUE,
        ),
    )
