"""What a service that only answers for itself has no need of, it does not load."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

_STARTS = """
import asyncio, json, sys

from fastapi import FastAPI

from otel_monitoring import MonitoringService

app = FastAPI()
MonitoringService(store="memory").instrument(app)


async def live():
    async with app.router.lifespan_context(app):
        pass


asyncio.run(live())
print(json.dumps(sorted(sys.modules)))
"""


@pytest.mark.skipif(find_spec("fastapi.telemetry") is None, reason="contrib measures requests, and needs wrapt")
def test_a_service_without_exporters_loads_nothing_that_sends_or_wraps() -> None:
    done = subprocess.run([sys.executable, "-c", _STARTS], capture_output=True, text=True, timeout=100, check=True)
    loaded = json.loads(done.stdout)
    needless = ("wrapt", "httpx", "requests", "smtplib", "google", "opentelemetry.exporter", "opentelemetry.sdk.trace")
    assert [name for name in loaded if name.startswith((*needless, "opentelemetry.instrumentation"))] == []
