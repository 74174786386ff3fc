"""The documented dashboard over the health endpoints: the same groups, read as JSON, for one service and no backend.

The JSON comes by way of the Infinity data source (https://grafana.com/grafana/plugins/yesoreyeram-infinity-datasource/);
its root selectors are JSONata.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from grafana_foundation_sdk.builders import common as options
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import gauge, stat, table, timeseries
from grafana_foundation_sdk.cog import builder as cog
from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.models import common, dashboard

from otel_monitoring.export.grafana_provisioning import HEALTH_DASHBOARD_UID, HEALTH_UID
from tests.dashboards import panels as p

_SOURCE = common.DataSourceRef(type_val="yesoreyeram-infinity-datasource", uid=HEALTH_UID)
_STATES = {"healthy": ("healthy", p.GREEN), "degraded": ("degraded", p.YELLOW), "unhealthy": ("unhealthy", p.RED)}
_SEVERITIES = {"critical": ("critical", "dark-red"), "error": ("error", p.RED), "warning": ("warning", p.YELLOW)}
_COLLECTIONS = '$each(database.collections, function($v, $k) {{"name": $k, "documents": $v.document_count}})'


class JsonQuery(variants.Dataquery, cog.Builder[variants.Dataquery]):  # type: ignore[misc]
    """A question to the Infinity data source.

    Args:
        path: Where the JSON is, below the data source's address.
        root: JSONata that chooses the rows; empty: the whole answer.
        columns: Key, heading and type (`string`, `number`, `timestamp`) of each column.
    """

    def __init__(self, path: str, root: str, columns: Sequence[tuple[str, str, str]]) -> None:
        self.path = path
        self.root = root
        self.columns = columns

    def build(self) -> variants.Dataquery:
        """As the builder of a panel wants it."""
        return self

    def to_json(self) -> dict[str, Any]:
        """As the panel keeps it."""
        return {
            "refId": "A",
            "datasource": _SOURCE.to_json(),
            "type": "json",
            "source": "url",
            "parser": "backend",
            "format": "table",
            "url": self.path,
            "url_options": {"method": "GET", "data": ""},
            "root_selector": self.root,
            "columns": [{"selector": key, "text": title, "type": kind} for key, title, kind in self.columns],
            "filters": [],
        }


class SeriesQuery(JsonQuery):
    """A question for a metric of the past, in the time that the dashboard shows.

    Args:
        path: Where the series are, below the data source's address.
        number: Its number in the panel, from 0.
        metric: The name of the metric.
        title: The name of its line.
    """

    def __init__(self, path: str, number: int, metric: str, title: str) -> None:
        super().__init__(path, "points", [("time", "Time", "timestamp"), ("value", title, "number")])
        self.number = number
        self.metric = metric

    def to_json(self) -> dict[str, Any]:
        """As the panel keeps it."""
        asked = {"metric": self.metric, "range": "${__range_s}", "end": "${__to}"}
        params = [{"key": key, "value": value} for key, value in asked.items()]
        options = {"method": "GET", "data": "", "params": params}
        ref = chr(ord("A") + self.number)
        return {**super().to_json(), "refId": ref, "format": "timeseries", "url_options": options}


def health_dashboard() -> builders.Dashboard:
    """The dashboard over the health endpoints."""
    prefix = p.blank("prefix")
    detailed = f"{prefix}/health/detailed"
    made = (
        builders.Dashboard("Health endpoints")
        .uid(HEALTH_DASHBOARD_UID)
        .description(
            "What /health/detailed and /health/diagnostics of one service answer now, and /health/series of the past."
        )
        .tags(["otel_monitoring"])
        .time("now-1h", "now")
        .refresh(p.blank("check_interval"))
        .timezone("browser")
    )
    _system_health(made, detailed)
    _performance(made, detailed)
    _resources(made, detailed)
    _database(made, detailed)
    _past(made, f"{prefix}/health/series")
    made.with_row(builders.Row("Recent Alerts"))
    columns = (
        ("timestamp", "Time", "timestamp"),
        ("severity", "Severity", "string"),
        ("type", "Type", "string"),
        ("message", "Message", "string"),
    )
    color = common.TableColoredBackgroundCellOptions(mode=common.TableCellBackgroundDisplayMode.BASIC).to_json()
    made.with_panel(
        _table(
            "Recent alerts", JsonQuery(f"{prefix}/health/diagnostics", "alerts", columns), sort="Time"
        ).override_by_name(
            "Severity",
            [
                dashboard.DynamicConfigValue("custom.cellOptions", color),
                dashboard.DynamicConfigValue("mappings", p.names(_SEVERITIES)),
            ],
        )
    )
    return made


def _system_health(made: builders.Dashboard, path: str) -> None:
    made.with_row(builders.Row("System Health"))
    made.with_panel(_text("Status", JsonQuery(path, "", [("status", "Status", "string")])).mappings(p.names(_STATES)))
    made.with_panel(_figure("Uptime", JsonQuery(path, "", [("uptime_seconds", "Uptime", "number")]), "dtdurations"))
    made.with_panel(
        _figure("Last update", JsonQuery(path, "", [("timestamp", "Last update", "timestamp")]), "dateTimeFromNow")
    )


def _performance(made: builders.Dashboard, path: str) -> None:
    made.with_row(builders.Row("Performance Metrics"))
    slow = p.blank("api_response_time_s")
    for key, title, unit, limit in (
        ("avg_response_time", "Average response time", "s", slow),
        ("p95_response_time", "p95 response time", "s", slow),
        ("error_rate", "Error rate", "percent", p.blank("error_rate_percent")),
        ("requests_recorded", "Requests", "short", None),
    ):
        panel = _figure(title, JsonQuery(path, "performance", [(key, title, "number")]), unit)
        made.with_panel(panel.thresholds(p.steps((limit, p.RED))) if limit is not None else panel)


def _resources(made: builders.Dashboard, path: str) -> None:
    made.with_row(builders.Row("System Resources"))
    for key, title in (("cpu_percent", "CPU"), ("memory_percent", "Memory")):
        made.with_panel(
            gauge.Panel()
            .title(title)
            .unit("percent")
            .min(0)
            .max(100)
            .span(4)
            .height(6)
            .datasource(_SOURCE)
            .reduce_options(_last())
            .thresholds(p.near(key))
            .with_target(JsonQuery(path, "system", [(key, title, "number")]))
        )
    for key, title, unit in (
        ("memory_mb", "Process memory", "mbytes"),
        ("avg_memory_mb", "Average memory", "mbytes"),
        ("avg_cpu_percent", "Average CPU", "percent"),
    ):
        made.with_panel(_figure(title, JsonQuery(path, "system", [(key, title, "number")]), unit))


def _database(made: builders.Dashboard, path: str) -> None:
    made.with_row(builders.Row("Database Health"))
    made.with_panel(
        _text("Connection", JsonQuery(path, "database", [("status", "Status", "string")])).mappings(p.names(_STATES))
    )
    response = JsonQuery(path, "database", [("response_time_ms", "Response time", "number")])
    made.with_panel(
        _figure("Response time", response, "ms").thresholds(p.steps((p.blank("database_response_time_ms"), p.YELLOW)))
    )
    columns = (("name", "Collection", "string"), ("documents", "Documents", "number"))
    made.with_panel(_table("Collections", JsonQuery(path, _COLLECTIONS, columns), sort="Documents", span=12))


def _past(made: builders.Dashboard, path: str) -> None:
    made.with_row(builders.Row("The Past"))
    made.with_panel(_lines("Requests a second", "reqps", path, {"requests": "requests"}))
    made.with_panel(_lines("Errors", "percent", path, {"error_rate": "error rate"}))
    made.with_panel(_lines("Response times", "s", path, {name: name for name in ("p50", "p95", "p99")}))
    made.with_panel(_lines("CPU in use", "percent", path, {"cpu": "in use", "process_cpu": "by one process"}))
    made.with_panel(_lines("Memory of a process", "mbytes", path, {"memory": "memory"}))
    made.with_panel(_lines("Event loop lag", "s", path, {"loop_lag": "largest"}))
    made.with_panel(_lines("Database ping", "s", path, {"ping": "ping"}))
    made.with_panel(_lines("Connections in use", "short", path, {"pool": "connections"}))
    made.with_panel(_lines("Documents", "short", path, {"documents": "documents"}))


def _lines(title: str, unit: str, path: str, metrics: Mapping[str, str]) -> timeseries.Panel:
    """A line for each metric; what nobody measured is a gap."""
    panel = p.chart(title, unit).datasource(_SOURCE)
    for number, (metric, name) in enumerate(metrics.items()):
        panel.with_target(SeriesQuery(path, number, metric, name))
    return panel


def _figure(title: str, query: JsonQuery, unit: str) -> stat.Panel:
    return (
        stat.Panel()
        .title(title)
        .unit(unit)
        .span(4)
        .height(4)
        .datasource(_SOURCE)
        .graph_mode(common.BigValueGraphMode.NONE)
        .color_mode(common.BigValueColorMode.BACKGROUND)
        .reduce_options(_last())
        .thresholds(p.steps(base=p.BLUE))
        .with_target(query)
    )


def _text(title: str, query: JsonQuery) -> stat.Panel:
    """As `_figure`, for a text."""
    return _figure(title, query, "string").reduce_options(_last().fields("/.*/"))


def _table(title: str, query: JsonQuery, *, sort: str, span: int = 24) -> table.Panel:
    return (
        table.Panel()
        .title(title)
        .span(span)
        .height(8)
        .datasource(_SOURCE)
        .sort_by([options.TableSortByFieldState().display_name(sort).desc(True)])
        .with_target(query)
    )


def _last() -> options.ReduceDataOptions:
    return options.ReduceDataOptions().calcs(["lastNotNull"])
