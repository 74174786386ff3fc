"""The example (examples/earlybird) under uvicorn: prints, as JSON, what its process costs at each stage.

Started as `python -m tests.benchmarks.starting bare|sdk|monitored SETTLE IDLE`: it starts, answers, is left alone for
SETTLE seconds, and is measured while it is idle for IDLE more. Without the monitoring the names of the package that the
example uses stand for nothing; everything else is the same. `sdk`: without it, but with the SDK and its OTLP exporters.
`MONGODB_URI` is its database.
"""

import asyncio
import contextlib
import gc
import json
import os
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from tests.benchmarks.setups import export_by_hand

_PATHS = ("/api/users/me", "/api/health")


class _NoMonitoring:
    """Stands for `MonitoringService`."""

    def __init__(self, *arguments: object, **settings: object) -> None:
        from opentelemetry import metrics

        self.meter = metrics.get_meter("application")

    def instrument(self, app: object) -> "_NoMonitoring":
        return self


def _without_monitoring() -> None:
    """Put what the example imports of the package in its place."""

    def undecorated(*_: object, **__: object) -> Any:
        return lambda function: function

    names: dict[str, dict[str, object]] = {
        "otel_monitoring": {"MonitoringService": _NoMonitoring, "__path__": []},
        "otel_monitoring.alerts": {"AlertType": SimpleNamespace(DELIVERY_ISSUE="", BILLING_FAILURE="")},
        "otel_monitoring.monitoring": {"get_monitoring": lambda: None},
        "otel_monitoring.tracing": {
            "traced": undecorated,
            "tagged": contextlib.nullcontext,
            "carry": lambda document: document,
        },
    }
    for name, values in names.items():
        module = sys.modules[name] = ModuleType(name)
        vars(module).update(values)


async def _serve(settle_seconds: float, idle_seconds: float) -> dict[str, float]:
    import httpx
    import uvicorn

    config = uvicorn.Config("examples.earlybird.app:app", port=0, lifespan="on", log_level="warning")
    config.load()
    found = {"imported": time.process_time()}
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    found["started"] = time.process_time()
    transport = httpx.ASGITransport(config.loaded_app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        for path in _PATHS:
            await client.get(path)
    found["answered"] = time.process_time()
    await asyncio.sleep(settle_seconds)
    found["settled"] = began = time.process_time()
    if idle_seconds:
        await asyncio.sleep(idle_seconds)
        found["idle"] = (time.process_time() - began) / idle_seconds
        found["resident"] = _resident()
    await server.shutdown()
    return found


def _resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Start, answer, be idle, stop."""
    if sys.argv[1] != "monitored":
        _without_monitoring()
    if sys.argv[1] == "sdk":
        export_by_hand()
    found = asyncio.run(_serve(*map(float, sys.argv[2:4])))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
