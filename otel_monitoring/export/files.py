"""What is exported, as files below one folder; and whether those that are there are still the same."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.config.settings import Thresholds
from otel_monitoring.export.datadog_monitors import datadog
from otel_monitoring.export.grafana_alerts import grafana_alerts
from otel_monitoring.export.grafana_dashboards import dashboards
from otel_monitoring.export.grafana_provisioning import dashboard_provider, datasources
from otel_monitoring.export.options import ExportOptions
from otel_monitoring.export.prometheus_rules import prometheus

Target = Literal["prometheus", "grafana", "datadog", "all"]


def grafana(
    rules: Sequence[Rule], options: ExportOptions | None = None, *, thresholds: Thresholds | None = None
) -> dict[str, str]:
    """What Grafana is given: alert rules, data sources, dashboards, by path.

    Args:
        rules: The rules.
        options: For which service, with which histograms.
        thresholds: Where the colours of dashboards change.

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
    """The content of every file of `target`, by its path below the folder.

    Raises:
        ConfigurationError: As `grafana` and `datadog`.
    """
    files: dict[str, str] = {}
    if target in ("prometheus", "all"):
        files["prometheus/rules.yaml"] = prometheus(rules, options)
    if target in ("grafana", "all"):
        files.update(grafana(rules, options, thresholds=thresholds))
    if target in ("datadog", "all"):
        for rule, monitor in zip(rules, datadog(rules, options), strict=True):
            files[f"datadog/{rule.name}.json"] = f"{json.dumps(monitor, indent=2, ensure_ascii=False)}\n"
    return files


def write(files: Mapping[str, str], folder: Path) -> list[Path]:
    """Write the files below `folder`; returns those that were not like that before.

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
    """Which of the files are missing below `folder`, or say something else there."""
    return [path for path, text in files.items() if _read(folder / path) != text]


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
