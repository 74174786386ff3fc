"""The dashboard of a service: the documented panel groups, its endpoints, its database, its workers, its alerts."""

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import logs, loki
from grafana_foundation_sdk.models import common, dashboard

from otel_monitoring import semconv as c
from otel_monitoring.export.grafana_provisioning import DASHBOARD_UID, LOKI_UID
from tests.dashboards import panels as p
from tests.dashboards import queries as q
from tests.dashboards.panels import Column, Query
from tests.dashboards.queries import RANGE, SERVICE, Durations

_ALERT_LABELS = "alertname, severity, service, environment, endpoint, instance, rule"
_SEVERITIES = {
    "critical": ("critical", "dark-red"),
    "error": ("error", p.RED),
    "warning": ("warning", p.YELLOW),
    "info": ("info", p.BLUE),
}


def service_dashboard(*, native: bool) -> builders.Dashboard:
    """The dashboard `otel_monitoring`.

    Args:
        native: Whether Prometheus stores histograms as native ones.
    """
    requests = Durations(c.HTTP_SERVER_REQUEST_DURATION, native)
    made = (
        builders.Dashboard("Service")
        .uid(DASHBOARD_UID)
        .description("Requests, endpoints, resources, database, workers and alerts of services with otel_monitoring.")
        .tags(["otel_monitoring"])
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
    )
    for variable in _variables():
        made.with_variable(variable)
    _system_health(made)
    _performance(made, requests)
    _endpoints(made, requests)
    _resources(made, native)
    _database(made)
    _commands(made, native)
    _workers(made, requests)
    _alerts(made)
    return made


def _variables() -> list[builders.QueryVariable]:
    found = (
        ("service", "Service", "target_info", "job"),
        (
            "environment",
            "Environment",
            'target_info{job=~"$service"}',
            c.prometheus_label("deployment.environment.name"),
        ),
        ("instance", "Instance", f"target_info{{{SERVICE}}}", "instance"),
    )
    return [
        builders.QueryVariable(name)
        .label(label)
        .datasource(p.METRICS)
        .query({"query": f"label_values({series}, {key})", "refId": name, "qryType": 1})
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(dashboard.VariableOption(selected=True, text="All", value="$__all"))
        for name, label, series, key in found
    ]


def _system_health(made: builders.Dashboard) -> None:
    up = q.gauge(c.DATABASE_UP, "1")
    firing = f'ALERTS{{{SERVICE},alertstate="firing",rule!=""}}'
    # The worst of: the database is down (2), an alert fires (1), the service is there (0).
    status = (
        f'max(label_replace(2 * (1 - min({up})), "of", "database", "", "")'
        f' or label_replace(clamp_max(count({firing}), 1), "of", "alerts", "", "")'
        f" or 0 * max(target_info{{{q.SELECTION}}}))"
    )
    states = {"0": ("Healthy", p.GREEN), "1": ("Degraded", p.YELLOW), "2": ("Unhealthy", p.RED)}
    uptime = q.gauge(c.PROCESS_UPTIME, "s")
    made.with_row(builders.Row("System Health"))
    made.with_panel(
        p.figure(
            "Status", Query(status), "none", description="Unhealthy: the database is down. Degraded: an alert fires."
        )
        .mappings(p.names(states))
        .thresholds(p.steps((1, p.YELLOW), (2, p.RED)))
    )
    made.with_panel(p.figure("Uptime", Query(f"max({uptime})"), "dtdurations", description="Of the oldest worker."))
    made.with_panel(
        p.figure("Last update", Query(f"1000 * max(timestamp({uptime}))"), "dateTimeFromNow").description(
            "When the last measurement was stored."
        )
    )
    made.with_panel(p.figure("Workers", Query(f"count({uptime})"), "none"))
    made.with_panel(
        p.figure("Firing alerts", Query(f"count({firing}) or 0 * count({uptime})"), "none").thresholds(
            p.steps((1, p.RED))
        )
    )
    made.with_panel(
        p.figure("Active requests", Query(f"sum({q.amount(c.HTTP_SERVER_ACTIVE_REQUESTS, '{request}')})"), "none")
    )


def _performance(made: builders.Dashboard, requests: Durations) -> None:
    made.with_row(builders.Row("Performance Metrics"))
    made.with_panel(
        p.lines(
            "Response time",
            "s",
            Query(requests.mean(), "average"),
            Query(requests.quantile(0.5), "p50"),
            Query(requests.quantile(0.95), "p95"),
            Query(requests.quantile(0.99), "p99"),
            exemplars=True,
            description="Dots are single requests: each leads to its trace.",
        )
    )
    made.with_panel(
        p.lines("Error rate", "percent", Query(requests.percent(q.FAILED), "errors"), description="5xx and exceptions.")
    )
    made.with_panel(
        p.bars(
            "Requests",
            "short",
            Query(requests.count("http_response_status_code"), "{{http_response_status_code}}"),
            description="Count by status.",
        )
    )


def _endpoints(made: builders.Dashboard, requests: Durations) -> None:
    by = ("http_request_method", "http_route")
    made.with_row(builders.Row("Endpoints"))
    made.with_panel(
        p.rows(
            "Endpoints",
            (
                Column("Method", label="http_request_method"),
                Column("Endpoint", label="http_route"),
                Column("Requests", requests.count(*by, over=RANGE)),
                Column("Average", requests.mean(*by, over=RANGE), "s"),
                Column("p95", requests.quantile(0.95, *by, over=RANGE), "s"),
                Column("p99", requests.quantile(0.99, *by, over=RANGE), "s"),
                Column("Errors", requests.percent(q.FAILED, *by, over=RANGE), "percent"),
            ),
            sort="Requests",
            description="Over the whole time range. An empty endpoint: paths that match no route.",
        )
    )


def _resources(made: builders.Dashboard, native: bool) -> None:
    worker = "{{job}} {{instance}}"
    cpu, memory = q.gauge(c.SYSTEM_CPU_UTILIZATION, "1"), q.gauge(c.SYSTEM_MEMORY_UTILIZATION, "1")
    made.with_row(builders.Row("System Resources"))
    made.with_panel(p.dial("CPU", Query(f"100 * max({cpu})"), "cpu_percent"))
    made.with_panel(p.dial("Memory", Query(f"100 * max({memory})"), "memory_percent"))
    made.with_panel(p.lines("Process CPU", "percentunit", Query(q.gauge(c.PROCESS_CPU_UTILIZATION, "1"), worker)))
    made.with_panel(p.lines("Process memory", "bytes", Query(q.amount(c.PROCESS_MEMORY_USAGE, "By"), worker)))
    made.with_panel(p.lines("Event loop lag", "s", Query(q.gauge(c.EVENT_LOOP_LAG, "s"), worker)))
    pauses = Durations(c.GC_PAUSE_DURATION, native)
    generation = c.prometheus_label(c.GC_GENERATION)
    made.with_panel(
        p.lines("Garbage collection", "s", Query(pauses.quantile(0.99, generation), f"generation {{{{{generation}}}}}"))
    )
    made.with_panel(
        p.lines(
            "Threads and files",
            "short",
            Query(f"sum({q.amount(c.PROCESS_THREAD_COUNT, '{thread}')})", "threads"),
            Query(f"sum({q.amount(c.PROCESS_OPEN_FILE_DESCRIPTOR_COUNT, '{file_descriptor}')})", "file descriptors"),
        )
    )


def _database(made: builders.Dashboard) -> None:
    up, ping = q.gauge(c.DATABASE_UP, "1"), q.gauge(c.DATABASE_PING_DURATION, "s")
    documents = q.gauge(c.COLLECTION_DOCUMENTS, "{document}")
    slow = p.blank("database_response_time_s")
    made.with_row(builders.Row("Database Health"))
    made.with_panel(
        p.figure("Connection", Query(f"min({up})"), "none")
        .mappings(p.names({"1": ("Up", p.GREEN), "0": ("Down", p.RED)}))
        .thresholds(p.steps((1, p.GREEN), base=p.RED))
    )
    made.with_panel(
        p.figure("Database response time", Query(f"max({ping})"), "s", description="Of the last ping.").thresholds(
            p.steps((slow, p.YELLOW))
        )
    )
    made.with_panel(p.lines("Ping", "s", Query(f"max by (job) ({ping})", "{{job}}")))
    collection = c.prometheus_label(c.DB_COLLECTION_NAME)
    made.with_panel(
        p.rows(
            "Collections",
            (Column("Collection", label=collection), Column("Documents", f"max by ({collection}) ({documents})")),
            sort="Documents",
            span=8,
        )
    )


def _commands(made: builders.Dashboard, native: bool) -> None:
    commands = Durations(c.DB_CLIENT_OPERATION_DURATION, native)
    waits = Durations(c.DB_CLIENT_CONNECTION_WAIT_TIME, native)
    operation, state = c.prometheus_label(c.DB_OPERATION_NAME), c.prometheus_label(c.DB_CLIENT_CONNECTION_STATE)
    made.with_panel(p.lines("Commands", "ops", Query(commands.rate(operation), f"{{{{{operation}}}}}")))
    made.with_panel(p.lines("Command p95", "s", Query(commands.quantile(0.95, operation), f"{{{{{operation}}}}}")))
    made.with_panel(
        p.lines(
            "Command errors", "percent", Query(commands.percent('error_type!=""', operation), f"{{{{{operation}}}}}")
        )
    )
    made.with_panel(
        p.lines(
            "Connections",
            "short",
            Query(f"sum by ({state}) ({q.amount(c.DB_CLIENT_CONNECTION_COUNT, '{connection}')})", f"{{{{{state}}}}}"),
            Query(f"sum({q.amount(c.DB_CLIENT_CONNECTION_MAX, '{connection}')})", "most"),
            Query(f"sum({q.amount(c.DB_CLIENT_CONNECTION_PENDING_REQUESTS, '{request}')})", "waiting"),
        )
    )
    made.with_panel(
        p.lines("Wait for a connection", "s", Query(waits.quantile(0.95), "p95"), Query(waits.mean(), "average"))
    )


def _workers(made: builders.Dashboard, requests: Durations) -> None:
    by = ("job", "instance")
    made.with_row(builders.Row("Workers"))
    made.with_panel(
        p.rows(
            "Each worker",
            (
                Column("Service", label="job"),
                Column("Instance", label="instance"),
                Column("Uptime", f"max by (job, instance) ({q.gauge(c.PROCESS_UPTIME, 's')})", "dtdurations"),
                Column("Requests a second", requests.rate(*by, over=RANGE), "reqps"),
                Column("p95", requests.quantile(0.95, *by, over=RANGE), "s"),
                Column("CPU", f"max by (job, instance) ({q.gauge(c.PROCESS_CPU_UTILIZATION, '1')})", "percentunit"),
                Column("Memory", f"max by (job, instance) ({q.amount(c.PROCESS_MEMORY_USAGE, 'By')})", "bytes"),
                Column("Event loop lag", f"max by (job, instance) ({q.gauge(c.EVENT_LOOP_LAG, 's')})", "s"),
            ),
            sort="Requests a second",
        )
    )


def _alerts(made: builders.Dashboard) -> None:
    kind, severity = c.prometheus_label(c.ALERT_TYPE), c.prometheus_label(c.ALERT_SEVERITY)
    since = (
        f'1000 * max by ({_ALERT_LABELS}) (ALERTS_FOR_STATE{{{SERVICE},rule!=""}}'
        ' and ignoring (alertstate) ALERTS{alertstate="firing"})'
    )
    named = [(label.capitalize(), label) for label in _ALERT_LABELS.split(", ")]
    details = {"title": "Details", "url": "/alerting/list?search=${__data.fields.Alertname}"}
    color = common.TableColoredBackgroundCellOptions(mode=common.TableCellBackgroundDisplayMode.BASIC).to_json()
    made.with_row(builders.Row("Recent Alerts"))
    made.with_panel(
        p.rows(
            "Alerts that fire",
            (Column("Since", since, "dateTimeAsIso"), *(Column(title, label=label) for title, label in named)),
            sort="Since",
            span=14,
            description="Alerts of the rules in Prometheus; a click on a name shows the rule.",
        )
        .override_by_name(
            "Severity",
            [
                dashboard.DynamicConfigValue("custom.cellOptions", color),
                dashboard.DynamicConfigValue("mappings", p.names(_SEVERITIES)),
            ],
        )
        .override_by_name("Alertname", [dashboard.DynamicConfigValue("links", [details])])
    )
    raised = q.growth(c.ALERTS, f'{c.prometheus_label(c.ALERT_STATUS)}="firing"', kind, severity)
    made.with_panel(
        p.bars("Raised by the service", "short", Query(raised, f"{{{{{kind}}}}} {{{{{severity}}}}}"), span=10)
    )
    source = common.DataSourceRef(type_val="loki", uid=LOKI_UID)
    said = f'{{service_name=~"$service"}} | {kind} != ""'
    made.with_panel(
        logs.Panel()
        .title("Alert history")
        .description("What the service said about its alerts, newest first; a line opens its details.")
        .span(24)
        .height(8)
        .datasource(source)
        .show_time(True)
        .enable_log_details(True)
        .sort_order(common.LogsSortOrder.DESCENDING)
        .with_target(loki.Dataquery().expr(said).ref_id("A").datasource(source))
    )
