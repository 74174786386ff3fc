"""What routes do with the database is named: seeded faults on a real server, and no value leaves."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry import context as contexts
from pymongo import AsyncMongoClient, MongoClient

from otel_monitoring import MonitoringService
from tests.integration import seeded
from tests.integration.servers import nx27017
from tests.otlp_sink import HttpSink
from tests.threaded_server import ThreadedServer
from tests.waiting import PATIENCE, eventually

pytestmark = pytest.mark.integration

TOKEN = "token-of-the-test"


class Run:
    """Every route was asked once; what was said about them, and what was exported."""

    def __init__(self, routes: dict[str, Any], exported: bytes) -> None:
        self.routes = routes
        self.exported = exported


def _asked(client: httpx.Client) -> dict[str, Any]:
    answer = client.get("/api/health/diagnostics", headers={"authorization": f"Bearer {TOKEN}"}).raise_for_status()
    content: dict[str, Any] = answer.json()
    assert seeded.CANARY not in json.dumps(content["database"]["routes"])
    assert not content["worker"]["contained_failures"]
    routes: dict[str, Any] = content["database"]["routes"]
    return routes


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with (
        HttpSink() as sink,
        nx27017() as server,
        seeded.cutting(server.address) as proxy,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.endpoint)
        patch.setenv("OTEL_MONITORING_TRACE_COMMENTS", "on")
        with closing(MongoClient[dict[str, Any]](server.uri)) as filler:
            seeded.fill(filler.shop)
        yield _run(sink, server, proxy, tmp_path_factory.mktemp("state"))


def _run(sink: Any, server: Any, proxy: seeded.CuttingProxy, state: Path) -> Run:
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(server.uri)
    service = MonitoringService(
        client.shop, admin_token=TOKEN, state_dir=state, explain=True, slow_command_ms=2.0, sample_interval=0.2
    )
    with closing(MongoClient[dict[str, Any]](server.uri)) as blocking:
        cut: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(f"mongodb://127.0.0.1:{proxy.port}")
        app = seeded.application(seeded.Databases(client.shop, blocking.shop, cut.shop, proxy))
        app.get("/given_context")(partial(_in_threads_with_the_context, blocking.shop))
        service.instrument(app)
        service.measure_client(blocking)
        service.measure_client(cut)
        running = ThreadedServer(app)
        try:
            with httpx.Client(base_url=running.url, trust_env=False, timeout=PATIENCE) as asking:
                for name in ("given_context", *(one.name for one in seeded.CASES)):
                    assert asking.get(f"/{name}").status_code == 200, name
                seeded.nightly(blocking.shop)
                eventually(lambda: not seeded.missing(_asked(asking)), "every case is named")
                routes = _asked(asking)
        finally:
            running.stop()
    return Run(routes, b"".join(one.message.SerializeToString() for one in sink.requests))


def _in_threads_with_the_context(db: Any) -> None:
    """As `opentelemetry-instrumentation-threading` does it."""
    context = contexts.get_current()

    def find(number: int) -> None:
        contexts.attach(context)
        db.customers.find_one({"_id": number})

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(find, range(10)))


def test_threads_that_are_given_the_context_belong_to_their_request(run: Run) -> None:
    (found,) = [one for one in run.routes["repeated"] if one["name"] == "GET /given_context"]
    assert (found["collection"], found["shape"], found["per_request"]["max"]) == ("customers", "{_id: ?}", 10)


@pytest.mark.parametrize("case", seeded.CASES, ids=lambda case: case.name)
def test_every_seeded_fault_is_named(run: Run, case: seeded.Case) -> None:
    assert case.named(run.routes)


def test_no_value_leaves_with_the_exports(run: Run) -> None:
    assert b"otel_monitoring.request.database.commands" in run.exported
    assert b"otel_monitoring.database.repeated" in run.exported
    assert seeded.CANARY.encode() not in run.exported
