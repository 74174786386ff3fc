import json
import sys
from typing import Any

import pytest

from otel_monitoring.config.settings import Thresholds
from otel_monitoring.export import ExportOptions, stale
from otel_monitoring.export.grafana_dashboards import dashboards
from tests.dashboards import FOLDER, built

DISTINCT = Thresholds(
    cpu_percent=60,
    memory_percent=70,
    error_rate_percent=3,
    api_response_time_ms=1500,
    database_response_time_ms=250,
)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="grafana-foundation-sdk needs Python 3.11")
def test_the_shipped_files_are_what_the_sdk_builds() -> None:
    files = built()
    assert stale(files, FOLDER) == [], "run: make dashboards"
    assert {path.name for path in FOLDER.iterdir()} == files.keys(), "dashboards that are gone"


def test_no_blank_is_left() -> None:
    for histograms in ("native", "classic"):
        for text in dashboards(ExportOptions(histograms=histograms), DISTINCT).values():
            assert "@{" not in text


def test_each_histogram_format_has_its_own_queries() -> None:
    assert "_bucket{" not in dashboards(ExportOptions(histograms="native"), DISTINCT)["service"]
    assert "_bucket{" in dashboards(ExportOptions(histograms="classic"), DISTINCT)["service"]


@pytest.mark.parametrize(
    ("name", "title", "limits"),
    [
        ("service", "CPU", [48, 60]),
        ("service", "Memory", [56, 70]),
        ("service", "Database response time", [0.25]),
        ("health", "CPU", [48, 60]),
        ("health", "Memory", [56, 70]),
        ("health", "Error rate", [3]),
        ("health", "p95 response time", [1.5]),
        ("health", "Response time", [250]),
    ],
)
def test_colours_change_at_the_thresholds(name: str, title: str, limits: list[float]) -> None:
    (panel,) = [panel for panel in panels(ExportOptions(), name) if panel["title"] == title]
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [step["value"] for step in steps] == [None, *limits]


@pytest.mark.parametrize("prefix", ["/ops", "", '/a "quoted" \\ prefix'])
def test_the_health_dashboard_asks_where_the_endpoints_are(prefix: str) -> None:
    targets = [
        target for panel in panels(ExportOptions(prefix=prefix), "health") for target in panel.get("targets", ())
    ]
    assert {target["url"] for target in targets} == {
        f"{prefix}/health/{name}" for name in ("detailed", "diagnostics", "series")
    }


def test_the_health_dashboard_asks_as_often_as_the_service_checks() -> None:
    assert json.loads(dashboards(ExportOptions(), DISTINCT)["health"])["refresh"] == "30s"
    assert json.loads(dashboards(ExportOptions(check_interval=90), DISTINCT)["health"])["refresh"] == "90s"


def panels(options: ExportOptions, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(dashboards(options, DISTINCT)[name])["panels"]
    return found
