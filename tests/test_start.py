"""What a service that only answers for itself has no need of, it does not load."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

_STARTS = """
import asyncio, json, os, sys

from fastapi import FastAPI
if "OTEL_EXPORTER_OTLP_ENDPOINT" in os.environ:
    import httpx, requests

from otel_monitoring import MonitoringService

app = FastAPI()
MonitoringService(store="memory").instrument(app)


async def live():
    async with app.router.lifespan_context(app):
        pass


asyncio.run(live())
print(json.dumps(sorted(sys.modules)))
"""


_NEEDED_BY_FEW = ("alerts.evidence.own_figures", "config.configuration_file", "redact.json_value")

NATIVE = find_spec("fastapi.telemetry") is not None
pytestmark = pytest.mark.skipif(not NATIVE, reason="contrib measures requests, and needs wrapt")


def loaded_by(environment: dict[str, str]) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _STARTS],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
        env={**os.environ, **environment},
    )
    loaded: list[str] = json.loads(done.stdout)
    return loaded


def test_a_service_without_exporters_loads_nothing_that_sends_or_wraps() -> None:
    needless = ("wrapt", "httpx", "requests", "smtplib", "google", "opentelemetry.exporter", "opentelemetry.sdk.trace")
    found = loaded_by({})
    assert [name for name in found if name.startswith((*needless, "opentelemetry.instrumentation"))] == []


def test_a_service_that_exports_loads_no_instrumentation() -> None:
    found = loaded_by({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
    assert "opentelemetry.exporter.otlp.proto.http" in found
    assert [name for name in found if name.startswith(("wrapt", "packaging", "opentelemetry.instrumentation."))] == []


def test_a_healthy_service_loads_nothing_for_mistakes_alerts_and_files_that_it_does_not_have() -> None:
    needless = ("difflib", *(f"otel_monitoring.{name}" for name in _NEEDED_BY_FEW))
    assert sorted({*needless}.intersection(loaded_by({}))) == []
