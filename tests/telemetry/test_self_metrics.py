"""Telemetry about telemetry: what leaves a service that exports, and what is said when it does not get through."""

import json
import os
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from tests.otlp_sink import HttpSink

pytestmark = pytest.mark.slow

SERVICE = """
import asyncio, json, logging, time
from otel_monitoring import MonitoringService
from fastapi import FastAPI
import httpx

app = FastAPI(title="orders")
result = {{}}

@app.get("/orders")
def orders():
    logging.getLogger("app").warning("an order")
    return {{}}

service = MonitoringService(
    None, store="memory", access="open", sample_interval=0.05, window=1, {settings}
).instrument(app)

async def ask(client, until):
    while not until(found := (await client.get("/api/alerts/rules")).json()):
        await asyncio.sleep(0.02)
    return found

async def flush():
    await asyncio.to_thread(lambda: [flush() for flush in service._parts.telemetry.flushes()])

def lost(rules):
    return next(rule for rule in rules if rule["name"] == "telemetry_lost")

async def main():
    await service.start()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        for _ in range(3):
            await client.get("/orders")
{body}
    await service.stop()

asyncio.run(main())
print(json.dumps(result))
"""


def serve(body: str, settings: str = "", **variables: str) -> dict[str, Any]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    script = SERVICE.format(settings=settings, body=textwrap.indent(textwrap.dedent(body).strip(), "        "))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**inherited, **variables}, check=False
    )
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout.splitlines()[-1]), "stderr": done.stderr}


def values(sink: HttpSink) -> dict[str, list[tuple[dict[str, str], float]]]:
    """The last points of each metric: attributes and value, of histograms the count."""
    found = {}
    for metric in sink.metrics():
        data = getattr(metric, metric.WhichOneof("data"))
        found[metric.name] = [
            (
                {each.key: each.value.string_value for each in point.attributes},
                point.count if hasattr(point, "count") else point.as_int or point.as_double,
            )
            for point in data.data_points
        ]
    return found


FLUSH_TWICE = """
await flush()
await flush()
"""


def test_what_is_made_queued_and_exported_is_told() -> None:
    with HttpSink() as sink:
        serve(FLUSH_TWICE, OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint)
        found, spans, records = values(sink), len(sink.spans()), len(sink.records())
    totals = {name: sum(value for _, value in points) for name, points in found.items()}
    assert spans == 3
    assert totals["otel.sdk.span.started"] == totals["otel.sdk.processor.span.processed"] == 3
    assert totals["otel.sdk.exporter.span.exported"] == 3
    assert totals["otel.sdk.span.live"] == totals["otel.sdk.exporter.span.inflight"] == 0
    assert totals["otel.sdk.log.created"] == records >= 3
    assert totals["otel.sdk.exporter.log.exported"] >= 3
    assert totals["otel.sdk.processor.span.queue.capacity"] == totals["otel.sdk.processor.log.queue.capacity"] == 2048
    assert totals["otel.sdk.processor.span.queue.size"] == 0
    assert totals["otel.sdk.exporter.metric_data_point.exported"] > 0
    assert totals["otel.sdk.metric_reader.collection.duration"] >= 1
    assert totals["otel_monitoring.telemetry.loss.duration"] == 0
    components = {attributes["otel.component.type"] for attributes, _ in found["otel.sdk.exporter.operation.duration"]}
    assert components == {f"otlp_http_{kind}_exporter" for kind in ("span", "metric", "log")}
    (attributes, _) = found["otel.sdk.span.started"][0]
    assert attributes == {"otel.span.sampling_result": "RECORD_AND_SAMPLE"}


def test_failures_are_told_with_their_type() -> None:
    with HttpSink() as sink, HttpSink("400") as refusing:
        serve(
            FLUSH_TWICE,
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{refusing.endpoint}/v1/traces",
        )
        found = values(sink)
    ((attributes, count),) = found["otel.sdk.exporter.span.exported"]
    assert count == 3
    assert attributes["error.type"] == "400"
    by_signal = {
        a["otel_monitoring.telemetry.signal"]: lost for a, lost in found["otel_monitoring.telemetry.loss.duration"]
    }
    assert by_signal["traces"] > 0
    assert by_signal["metrics"] == by_signal["logs"] == 0


def test_the_sdks_own_counters_take_their_place_where_the_user_wants_them() -> None:
    with HttpSink() as sink:
        serve(
            FLUSH_TWICE,
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
            OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED="true",
        )
        found = values(sink)
    assert sum(value for _, value in found["otel.sdk.span.started"]) == 3
    assert {"otel.span.parent.origin", "otel.span.sampling_result"} == found["otel.sdk.span.started"][0][0].keys()


def test_an_alert_fires_once_while_telemetry_is_being_lost() -> None:
    with HttpSink("400") as refusing:
        found = serve(
            """
            await flush()
            await ask(client, lambda rules: lost(rules)["state"] == "firing")
            await client.get("/orders")
            await flush()
            result["telemetry"] = (await client.get("/api/health/diagnostics")).json()["telemetry"]
            result["history"] = (await client.get("/api/alerts/history?alert_type=telemetry_lost")).json()
            """,
            "threshold_telemetry_loss_seconds=0.1",
            OTEL_EXPORTER_OTLP_ENDPOINT=refusing.endpoint,
        )
    assert [alert["type"] for alert in found["history"]] == ["telemetry_lost"]
    assert found["telemetry"]["traces"]["failures"] == 2
    assert found["telemetry"]["traces"]["dropped"] == 4
    assert "400" in found["telemetry"]["traces"]["last_error"]


@pytest.mark.parametrize("exported", [True, False])
def test_no_alert_is_false(exported: bool) -> None:
    with HttpSink() as sink:
        found = serve(
            """
            await flush()
            rules = await ask(client, lambda rules: lost(rules)["state"] != "unknown")
            result["rule"] = lost(rules)
            result["history"] = (await client.get("/api/alerts/history?alert_type=telemetry_lost")).json()
            """,
            "threshold_telemetry_loss_seconds=0",
            **({"OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint} if exported else {}),
        )
    assert found["rule"]["state"] == "inactive"
    assert found["history"] == []
