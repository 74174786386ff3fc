"""Panels as every dashboard here has them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from grafana_foundation_sdk.builders import common as options
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import gauge as gauges
from grafana_foundation_sdk.builders import prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from otel_monitoring.export.grafana_provisioning import PROMETHEUS_UID

GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"
METRICS = common.DataSourceRef(type_val="prometheus", uid=PROMETHEUS_UID)
_HEIGHT = 8


class Query(NamedTuple):
    """What a panel asks, and what it calls the answer.

    Attributes:
        expr: PromQL.
        legend: With `{{label}}`.
    """

    expr: str
    legend: str = ""


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        title: Its heading.
        expr: PromQL; None: a label of the rows.
        unit: Grafana's name of its unit.
        label: The label, where it is one.
    """

    title: str
    expr: str | None = None
    unit: str = "short"
    label: str = ""


def blank(name: str) -> Any:
    """What is filled in at the user's, in place of a text or number."""
    return f"@{{{name}}}"


def steps(*limits: tuple[float, str], base: str = GREEN) -> builders.ThresholdsConfig:
    """Colours from each limit upwards."""
    found = [dashboard.Threshold(value=None, color=base), *(dashboard.Threshold(at, color) for at, color in limits)]
    return builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(found)


def near(limit: str) -> builders.ThresholdsConfig:
    """Red from the blank `limit`, and yellow a little below."""
    return steps((blank(f"{limit}_near"), YELLOW), (blank(limit), RED))


def names(texts: Mapping[str, tuple[str, str]]) -> list[dashboard.ValueMapping]:
    """Texts and colours in place of values."""
    return [
        dashboard.ValueMap({key: dashboard.ValueMappingResult(text, color) for key, (text, color) in texts.items()})
    ]


def lines(
    title: str, unit: str, *queries: Query, span: int = 8, exemplars: bool = False, description: str = ""
) -> timeseries.Panel:
    """Lines over time; with exemplars, dots that lead to traces."""
    panel = chart(title, unit, span=span).description(description).datasource(METRICS)
    for index, query in enumerate(queries):
        panel.with_target(_target(query, index).range().exemplar(exemplars))
    return panel


def chart(title: str, unit: str, *, span: int = 8) -> timeseries.Panel:
    """A panel for lines over time, without any."""
    legend = options.VizLegendOptions().display_mode(common.LegendDisplayMode.LIST).show_legend(True)
    return (
        timeseries.Panel()
        .title(title)
        .unit(unit)
        .min(0)
        .span(span)
        .height(_HEIGHT)
        .fill_opacity(8)
        .show_points(common.VisibilityMode.NEVER)
        .legend(legend.placement(common.LegendPlacement.BOTTOM))
        .tooltip(options.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
    )


def bars(title: str, unit: str, *queries: Query, span: int = 8, description: str = "") -> timeseries.Panel:
    """Stacked bars over time."""
    stacking = options.StackingConfig().mode(common.StackingMode.NORMAL)
    panel = lines(title, unit, *queries, span=span, description=description)
    return panel.draw_style(common.GraphDrawStyle.BARS).fill_opacity(80).stacking(stacking)


def figure(title: str, query: Query, unit: str, *, span: int = 4, description: str = "") -> stat.Panel:
    """One number, now."""
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .span(span)
        .height(4)
        .datasource(METRICS)
        .graph_mode(common.BigValueGraphMode.NONE)
        .color_mode(common.BigValueColorMode.BACKGROUND)
        .reduce_options(options.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(steps(base=BLUE))
        .with_target(_target(query, 0).instant())
    )


def dial(title: str, query: Query, limit: str, *, span: int = 4) -> gauges.Panel:
    """A share in percent, red from the blank `limit` and yellow a little below."""
    return (
        gauges.Panel()
        .title(title)
        .unit("percent")
        .min(0)
        .max(100)
        .span(span)
        .height(_HEIGHT)
        .datasource(METRICS)
        .reduce_options(options.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(near(limit))
        .with_target(_target(query, 0).instant())
    )


def rows(title: str, columns: Sequence[Column], *, sort: str, span: int = 24, description: str = "") -> table.Panel:
    """A table: a row for each combination of labels, a column for each query."""
    asked = [column for column in columns if column.expr is not None]
    shown = {column.label or f"Value #{_ref(asked.index(column))}": column.title for column in columns}
    if len(asked) == 1:  # Grafana numbers values only where there are several queries
        shown = {key if not key.startswith("Value") else "Value": text for key, text in shown.items()}
    organized = {
        "includeByName": dict.fromkeys(shown, True),
        "indexByName": {key: index for index, key in enumerate(shown)},
        "renameByName": shown,
    }
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .span(span)
        .height(_HEIGHT)
        .datasource(METRICS)
        .sort_by([options.TableSortByFieldState().display_name(sort).desc(True)])
        .with_transformation(dashboard.DataTransformerConfig("merge", options={}))
        .with_transformation(dashboard.DataTransformerConfig("organize", options=organized))
    )
    for index, column in enumerate(asked):
        query = _target(Query(column.expr or ""), index).instant().format(PromQueryFormat.TABLE)
        panel.with_target(query)
        panel.override_by_name(column.title, [dashboard.DynamicConfigValue("unit", column.unit)])
    return panel


def _target(query: Query, index: int) -> prometheus.Dataquery:
    made = prometheus.Dataquery().expr(query.expr).ref_id(_ref(index)).datasource(METRICS)
    return made.legend_format(query.legend) if query.legend else made


def _ref(index: int) -> str:
    return chr(ord("A") + index)
