"""How a service starts, or does not: what it says, under every server."""

from pathlib import Path

import pytest

from tests.integration.processes import serving
from tests.otlp_sink import HttpSink
from tests.waiting import PATIENCE

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


LOGGING = """
import logging, logging.config
from contextlib import asynccontextmanager
from fastapi import FastAPI
from otel_monitoring import MonitoringService

HANDLERS = {{"version": 1, "handlers": {{"h": {{"class": "logging.StreamHandler"}}}}, "root": {{"handlers": ["h"]}}}}

@asynccontextmanager
async def lifespan(app):
    {configure}
    yield

app = FastAPI(lifespan=lifespan)
MonitoringService(None, access="open").instrument(app)

@app.get("/sell")
def sell():
    logging.getLogger("shop.orders").warning("low on stock")
"""
CONFIGURATIONS = {
    "dictConfig": "logging.config.dictConfig(HANDLERS)",
    "dictConfig-keeping": "logging.config.dictConfig({**HANDLERS, 'disable_existing_loggers': False})",
    "basicConfig": "logging.basicConfig(force=True)",
    "as-loguru-says": "logging.basicConfig(handlers=[logging.NullHandler()], level=0, force=True)",
    "cleared": "logging.getLogger().handlers = []",
    "fileConfig": "logging.config.fileConfig('logging.ini')",
    "shutdown": "logging.shutdown()",
}
INI = """
[loggers]
keys=root
[handlers]
keys=h
[formatters]
keys=
[handler_h]
class=StreamHandler
args=()
[logger_root]
level=INFO
handlers=h
"""


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_logging_configured_in_the_lifespan_is_exported(tmp_path: Path, name: str) -> None:
    (tmp_path / "logging.ini").write_text(INI)
    source = LOGGING.format(configure=CONFIGURATIONS[name])
    with HttpSink() as sink, serving(tmp_path, source, OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint) as service:
        service.get("/sell").raise_for_status()
        restored = service.diagnostics()["telemetry"]["logs"]["handler_restored"]
        service.stop()
        assert str(sink.records()).count("low on stock") == 1
    assert restored == (0 if name == "shutdown" else 1)
