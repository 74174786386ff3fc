"""A worker without any web application: its operations, logs, alerts and requests, as they arrive over OTLP."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry import metrics, propagate, trace

from otel_monitoring import MonitoringService
from otel_monitoring.alerts import AlertManager, AlertType
from otel_monitoring.alerts.model import Notification
from otel_monitoring.testing import MemoryChannel
from otel_monitoring.tracing import tagged, traced
from tests.integration.servers import nx27017
from tests.otlp_sink import TIMEOUT, HttpSink
from tests.pages import blocks
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.integration, pytest.mark.anyio]


class Webhook(MemoryChannel):
    """A channel that delivers over HTTP."""

    def __init__(self, url: str) -> None:
        super().__init__("webhook")
        self._url = url

    async def send(self, notification: Notification) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            await client.post(self._url, content=b"")
        await super().send(notification)


@traced("billing.run", alert=AlertType.BILLING_FAILURE)
def bill() -> None:
    logging.getLogger("billing").warning("billing")
    raise RuntimeError("the provider is down")


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("opentelemetry.trace.get_tracer_provider", trace.NoOpTracerProvider)
    monkeypatch.setattr("opentelemetry.metrics.get_meter_provider", metrics.NoOpMeterProvider)


@pytest.fixture
def service() -> Callable[..., MonitoringService]:
    def make(sink: HttpSink, **settings: Any) -> MonitoringService:
        common = {"service_name": "billing", "baggage_keys": "order.id", "shutdown_timeout": PATIENCE}
        return MonitoringService(None, otlp_endpoint=sink.endpoint, **{**common, **settings})

    return make


def attributes(item: Any) -> dict[str, str]:
    return {a.key: a.value.string_value for a in item.attributes}


async def test_a_worker_sends_all_signals_and_its_alerts(service: Callable[..., MonitoringService]) -> None:
    with HttpSink() as sink, HttpSink() as hook:
        channel = Webhook(f"{hook.endpoint}/v1/logs")
        before = propagate.get_global_textmap()
        monitoring = service(sink, alert_manager=AlertManager(channels=[channel]))
        await monitoring.start()
        monitoring.meter.create_counter("orders.billed").add(1)
        with tagged({"order.id": "o-1"}), pytest.raises(RuntimeError, match="provider"):
            bill()
        await monitoring.stop()

        spans = {span.name: span for span in sink.spans()}
        assert spans.keys() == {"billing.run"}  # neither the channel's request nor the exporters' own
        assert attributes(spans["billing.run"])["order.id"] == "o-1"
        assert spans["billing.run"].status.message == "the provider is down"
        record = next(r for r in sink.records() if r.body.string_value == "billing")
        assert attributes(record)["order.id"] == "o-1"
        assert record.span_id == spans["billing.run"].span_id
        assert {"orders.billed", "otel_monitoring.operation.duration"} <= {m.name for m in sink.metrics()}
        assert all(resource["service.name"] == "billing" for resource in sink.resources())

        (event,) = channel.alerts
        assert event.message == "billing.run failed: RuntimeError"
        assert all("traceparent" not in request.headers for request in hook.requests)
    assert propagate.get_global_textmap() is before


async def test_a_request_of_the_worker_goes_on_with_its_trace_until_it_stops(
    service: Callable[..., MonitoringService],
) -> None:
    with HttpSink() as sink, HttpSink() as other:
        monitoring = service(sink)
        await monitoring.start()
        async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as client:
            with traced("work"), tagged({"order.id": "o-2"}):
                await client.post(f"{other.endpoint}/v1/logs", content=b"")
            await monitoring.stop()
            await client.post(f"{other.endpoint}/v1/logs", content=b"")
        spans = {span.name: span for span in sink.spans()}
        assert spans.keys() == {"work", "POST"}
        assert attributes(spans["POST"])["order.id"] == "o-2"
        assert spans["POST"].parent_span_id == spans["work"].span_id
        first, second = other.requests
        assert first.headers["traceparent"].split("-")[2] == spans["POST"].span_id.hex()
        assert first.headers["baggage"] == "order.id=o-2"
        assert "traceparent" not in second.headers


async def test_without_an_endpoint_clients_are_left_alone() -> None:
    monitoring = MonitoringService(None)
    await monitoring.start()
    assert not hasattr(httpx.HTTPTransport.handle_request, "__wrapped__")
    await monitoring.stop()


async def test_the_documented_example_does_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = (block.text for block in blocks("docs/tracing.md") if block.language == "python")
    with nx27017() as server, HttpSink() as sink:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        readme: dict[str, Any] = {"__name__": "readme"}
        exec(example.replace("mongodb://localhost:27017", server.uri), readme)  # noqa: S102 - our own text
        working = asyncio.ensure_future(readme["main"]())

        def seen(name: str) -> list[Any]:
            return [span for span in sink.spans() if span.name == name]

        for number in range(1000):  # a change stream sees what comes after it
            await readme["place"]({"_id": f"o-{number}"})
            await asyncio.sleep(0.05)
            if working.done() or seen("billing.run"):
                break
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        await readme["db"].client.close()

        placed = {span.span_id: span for span in seen("order.place")}
        for billed in seen("billing.run"):
            (link,) = billed.links
            order_id = attributes(billed)["order.id"]
            (insert,) = (
                s for s in seen("insert orders") if s.parent_span_id == link.span_id and s.trace_id == link.trace_id
            )
            assert attributes(insert)["order.id"] == attributes(placed[link.span_id])["order.id"] == order_id
        assert len(seen("billing.close_month")) == 1
        assert "orders.billed" in {metric.name for metric in sink.metrics()}
