"""Zero-code start within one process: what it leaves alone, and how it behaves when something is in the way.

The commands and servers are tested for real in `tests/integration/test_zero_code.py`.
"""

import logging
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

import pytest
from fastapi import FastAPI
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.instrumentation.pymongo import PymongoInstrumentor
from pymongo import MongoClient

from otel_monitoring import MonitoringService, get_monitoring
from otel_monitoring.runtime.current_service import service_of
from otel_monitoring.zero_code.entry_points import OtelMonitoringInstrumentor, take_over
from tests.asgi import served
from tests.waiting import eventually_answered

pytestmark = pytest.mark.anyio

ORIGINAL = FastAPI.__call__


@pytest.fixture
def instrumentor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("OTEL_MONITORING_ACCESS", "open")
    monkeypatch.setenv("OTEL_MONITORING_STORE", "memory")
    before = FastAPI.__call__
    one: Any = OtelMonitoringInstrumentor()
    one.instrument()
    yield one
    one.uninstrument()
    assert FastAPI.__call__ in (before, ORIGINAL)


@pytest.mark.parametrize("group", ["pre_instrument", "instrumentor", "post_instrument"])
def test_opentelemetry_instrument_finds_it(group: str) -> None:
    [entry] = entry_points(group=f"opentelemetry_{group}", name="otel_monitoring")
    assert callable(entry.load())


async def test_the_application_is_monitored_with_the_client_it_builds(instrumentor: Any) -> None:
    client: MongoClient[Any] = MongoClient("mongodb://127.0.0.1:1", connect=False, serverSelectionTimeoutMS=100)
    shop = client["shop"]
    async with served(FastAPI()) as http:
        assert (await http.get("/api/health/live")).status_code == 200
        service = get_monitoring()
        assert service is not None
        assert service.db_checker._name == "shop"

        async def is_down() -> bool:
            return (await http.get("/api/health")).status_code == 503

        await eventually_answered(is_down, "it is down, and that is noticed")
        client.close()
        assert service.db_checker.status == "unknown", "a client that the application closed is not watched"
    del shop


async def test_clients_made_for_each_request_are_given_up(instrumentor: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with served(FastAPI()):
        for _ in range(30):
            MongoClient("mongodb://127.0.0.1:1", connect=False).close()
        service = get_monitoring()
        assert service is not None
        assert service.db_checker.status == "unknown"
    assert caplog.text.count("set OTEL_MONITORING_DATABASE_URI") == 1


async def test_an_application_that_does_it_itself_is_left_alone(instrumentor: Any) -> None:
    app = FastAPI()
    own = MonitoringService(None, prefix="/own").instrument(app)
    async with served(app) as http:
        assert (await http.get("/own/health/live")).status_code == 200
        assert (await http.get("/api/health/live")).status_code == 404
    assert get_monitoring() is own


async def test_each_application_of_the_process_is_monitored(instrumentor: Any) -> None:
    one, other = FastAPI(title="one"), FastAPI(title="other")
    for app in (one, other):
        app.add_api_route("/me", lambda: get_monitoring()._app.title)  # type: ignore[union-attr]
    one.mount("/below", below := FastAPI())
    async with served(one) as http, served(other) as beside:
        assert ((await http.get("/me")).json(), (await beside.get("/me")).json()) == ("one", "other")
        assert (await http.get("/below/x")).status_code == 404
    assert service_of(one) is not service_of(other) is not None
    assert service_of(below) is None


async def test_an_application_beside_one_that_does_it_itself_is_left_alone(
    instrumentor: Any, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "otel_monitoring")  # a log that takes INFO would have it
    own, other = FastAPI(title="own"), FastAPI(title="other")
    MonitoringService(None).instrument(own)
    async with served(own), served(other) as http:
        assert (await http.get("/api/health/live")).status_code == 404
        assert (await http.get("/api/health/live")).status_code == 404
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if "other" in line] == [
        "otel_monitoring: other: not monitored, because another application calls MonitoringService itself"
    ]


async def test_a_wrong_setting_leaves_the_application_running(
    instrumentor: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_MONITORING_PREFIX", "no-slash")
    app = FastAPI()
    app.add_api_route("/x", lambda: 1)
    async with served(app) as http:
        assert (await http.get("/x")).json() == 1
        assert (await http.get("/api/health/live")).status_code == 404
    assert "not monitored: OTEL_MONITORING_PREFIX: " in caplog.text


async def test_contrib_gives_way(instrumentor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Another test of this process may have set the global logger provider, for good.
    monkeypatch.setattr("opentelemetry._logs._internal._LOGGER_PROVIDER", None)
    before = FastAPI
    root, handler = logging.getLogger(), LoggingHandler()
    root.addHandler(handler)
    try:
        for other in (FastAPIInstrumentor(), PymongoInstrumentor()):
            other.instrument(skip_dep_check=True)
        take_over()
        assert not FastAPIInstrumentor().is_instrumented_by_opentelemetry
        assert handler not in root.handlers
        import fastapi

        assert fastapi.FastAPI is before
        assert PymongoInstrumentor().is_instrumented_by_opentelemetry, "there may be no application to serve"
        async with served(FastAPI()):
            assert not PymongoInstrumentor().is_instrumented_by_opentelemetry
    finally:
        root.removeHandler(handler)


def test_contrib_stays_where_we_are_switched_off() -> None:
    other = PymongoInstrumentor()
    other.instrument(skip_dep_check=True)
    take_over()
    assert other.is_instrumented_by_opentelemetry
    other.uninstrument()
