"""How a service starts, or does not: what it says, under every server."""

from pathlib import Path

import pytest

from tests.integration.processes import PATIENCE, serving

pytestmark = pytest.mark.integration

APP = """
from fastapi import FastAPI
from otel_monitoring import MonitoringService

app = FastAPI(title="orders")
MonitoringService(None).instrument(app)
"""
GUNICORN = ("gunicorn", "-k", "uvicorn.workers.UvicornWorker")


@pytest.mark.parametrize(
    ("runner", "status"),
    [
        pytest.param(("uvicorn",), 3, id="uvicorn"),
        pytest.param(("uvicorn", "--workers", "2"), None, id="uvicorn-workers"),
        pytest.param(GUNICORN, 3, id="gunicorn"),
        pytest.param((*GUNICORN, "--preload"), 3, id="gunicorn-preload"),
        pytest.param(("hypercorn",), None, id="hypercorn"),
        pytest.param(("granian", "--interface", "asgi"), None, id="granian"),
    ],
)
def test_a_wrong_setting_stops_the_start_in_one_line(
    tmp_path: Path, runner: tuple[str, ...], status: int | None
) -> None:
    with serving(tmp_path, APP, runner=runner, ready="", OTEL_MONITORING_WINDOW="5m") as service:
        ended = service.process.wait(PATIENCE)
    line = "otel_monitoring: OTEL_MONITORING_WINDOW: it must be a number, in seconds; did you mean 300?"
    assert f"{line} ({tmp_path / 'service.py'}:6)\n" in service.output
    assert "Traceback" not in service.output
    assert status in (None, ended), service.output


PLAIN = """
from fastapi import FastAPI

app = FastAPI(title="orders")
"""


@pytest.mark.parametrize("source", [PLAIN, APP], ids=["zero-code", "instrumented"])
def test_run_says_what_is_on_also_where_logging_is_not_configured(tmp_path: Path, source: str) -> None:
    run = ("otel-monitoring", "run")
    with serving(tmp_path, source, before=run, OTEL_PYTHON_DISTRO="none", OTEL_PYTHON_CONFIGURATOR="none") as service:
        output = service.stop()
    assert output.count("otel_monitoring: orders is monitored: /api/health is public, ") == 1, output
