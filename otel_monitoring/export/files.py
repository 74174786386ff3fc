"""Every exported file by its path: render the files, write them below a folder, or find those out of date."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.config.settings import Thresholds
from otel_monitoring.export.datadog_monitors import datadog
from otel_monitoring.export.datadog_slos import datadog_slos
from otel_monitoring.export.grafana_alerts import grafana_alerts
from otel_monitoring.export.grafana_dashboards import dashboards
from otel_monitoring.export.grafana_provisioning import dashboard_provider, datasources
from otel_monitoring.export.options import ExportOptions
from otel_monitoring.export.prometheus_rules import prometheus, prometheus_rule

Target = Literal["prometheus", "grafana", "datadog", "kubernetes", "all"]


def grafana(
    rules: Sequence[Rule], options: ExportOptions | None = None, *, thresholds: Thresholds | None = None
) -> dict[str, str]:
    """Grafana's alert rules, data sources and dashboards, by path below the folder.

    Args:
        rules: The rules.
        options: The service and the form of its histograms.
        thresholds: Values at which the colours of dashboards change; the defaults when not given.

    Raises:
        ConfigurationError: PyYAML, of the extra `export`, is not installed.
    """
    options = options or ExportOptions()
    made = dashboards(options, thresholds or Thresholds())
    return {
        "grafana/provisioning/alerting/rules.yaml": grafana_alerts(rules, options),
        "grafana/provisioning/datasources/datasources.yaml": datasources(options),
        "grafana/provisioning/dashboards/dashboards.yaml": dashboard_provider(),
        **{f"grafana/dashboards/{name}.json": text for name, text in made.items()},
    }


def render(
    target: Target, rules: Sequence[Rule], options: ExportOptions, thresholds: Thresholds | None = None
) -> dict[str, str]:
    """The content of every file of `target`, by its path below the folder; rules in a dry run are left out.

    Args:
        target: The engine, or `all`.
        rules: The rules.
        options: The service and the form of its histograms.
        thresholds: Values at which the colours of dashboards change; the defaults when not given.

    Raises:
        ConfigurationError: As `grafana` and `datadog`.
    """
    files: dict[str, str] = {}
    rules = [rule for rule in rules if not rule.dry_run]
    if target in ("prometheus", "all"):
        files["prometheus/rules.yaml"] = prometheus(rules, options)
    if target in ("grafana", "all"):
        files.update(grafana(rules, options, thresholds=thresholds))
    if target in ("datadog", "all"):
        for rule, monitor in zip(rules, datadog(rules, options), strict=True):
            files[f"datadog/{rule.name}.json"] = _json(monitor)
        files.update({f"datadog/slo_{name}.json": _json(slo) for name, slo in datadog_slos(rules, options).items()})
    if target in ("kubernetes", "all"):
        files["kubernetes/prometheus-rule.yaml"] = prometheus_rule(rules, options)
    return files


def _json(content: object) -> str:
    return f"{json.dumps(content, indent=2, ensure_ascii=False)}\n"


def write(files: Mapping[str, str], folder: Path) -> list[Path]:
    """Write the files below `folder`.

    Args:
        files: Contents by path, as by `render`.
        folder: The folder.

    Returns:
        The paths of new and changed files.

    Raises:
        OSError: A file cannot be written.
    """
    changed = [folder / path for path in stale(files, folder)]
    for path, text in files.items():
        if folder / path in changed:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    return changed


def stale(files: Mapping[str, str], folder: Path) -> list[str]:
    """The paths of `files` that are missing below `folder` or have another content there."""
    return [path for path, text in files.items() if _read(folder / path) != text]


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
