"""The public names exist, and importing the package starts nothing."""

import subprocess
import sys
from importlib import import_module

import pytest

import otel_monitoring

_QUIET_IMPORT = """
import sys, threading
from otel_monitoring import *
assert threading.active_count() == 1, threading.enumerate()
heavy = {"grpc", "motor", "opentelemetry.exporter.otlp.proto.http", "opentelemetry.exporter.otlp.proto.grpc"}
assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
from opentelemetry import metrics, trace
assert "Proxy" in type(trace.get_tracer_provider()).__name__
assert "Proxy" in type(metrics.get_meter_provider()).__name__
"""


def test_all_names_are_there() -> None:
    for name in otel_monitoring.__all__:
        assert getattr(otel_monitoring, name).__module__.startswith("otel_monitoring")
    assert sorted(otel_monitoring.__all__) == otel_monitoring.__all__
    assert len(otel_monitoring.__all__) <= 15


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("monitoring", {"MonitoringService", "get_monitoring", "set_monitoring"}),
        ("monitoring", {"PerformanceMetrics", "SystemMetrics", "DatabaseHealthChecker", "THRESHOLDS"}),
        ("alerts", {"AlertManager", "AlertSeverity", "AlertType", "THRESHOLDS"}),
        ("alerts", {"initialize_alerts", "set_alert_manager", "get_alert_manager"}),
        ("alerts", {"alert_database_down", "alert_high_error_rate", "alert_performance_issue"}),
    ],
)
def test_documented_names_are_in_their_documented_module(module: str, names: set[str]) -> None:
    assert names <= set(import_module(f"otel_monitoring.{module}").__all__)


@pytest.mark.slow
def test_the_package_alone_is_light() -> None:
    """Commands that ask a service over HTTP begin with it."""
    heavy = "{'fastapi', 'pydantic', 'opentelemetry', 'pymongo'}"
    source = f"import sys, otel_monitoring; assert not {heavy} & sys.modules.keys(); otel_monitoring.alerts.AlertType"
    subprocess.run([sys.executable, "-W", "error", "-c", source], check=True)
    assert set(otel_monitoring.__all__) <= set(dir(otel_monitoring))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = otel_monitoring.nonsense


@pytest.mark.slow
def test_nothing_starts_at_import() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", _QUIET_IMPORT], check=True)
