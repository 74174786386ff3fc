"""What it costs that a request knows its commands, and how many seeded faults are named."""

import asyncio
import gc
import random
import time
from contextlib import ExitStack, closing
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from fastapi import FastAPI
from opentelemetry.trace import NoOpTracerProvider
from pymongo import AsyncMongoClient, MongoClient

from otel_monitoring import MonitoringService
from otel_monitoring.instrumentation.database_work.metrics import WorkMetrics
from otel_monitoring.instrumentation.database_work.recorder import WorkRecorder
from otel_monitoring.instrumentation.http_server.fastapi import instrument_app
from otel_monitoring.instrumentation.http_server.request_options import RequestOptions
from otel_monitoring.instrumentation.mongodb.instrumentation import attach
from otel_monitoring.metrics.reader import SnapshotReader
from otel_monitoring.telemetry.meter_providers import GuardedMeterProvider
from tests.benchmarks.client import Call, Client
from tests.benchmarks.figures import added, paired, spread
from tests.benchmarks.pace import Rounds
from tests.benchmarks.report import Report, say
from tests.integration import seeded
from tests.integration.servers import nx27017
from tests.threaded_server import ThreadedServer

_REQUESTS = 2
"""In a round: few, so that many rounds are disturbed by nothing."""
_COMMANDS = 5
_MICRO = 1e6
_WITHOUT, _WITH = "requests and commands measured", "and which request sends which command"


def run(report: Report, rounds: Rounds) -> None:
    """The section of the report."""
    report.section(
        "Routes and their database",
        f"Process CPU of one request that sends {_COMMANDS} commands by `AsyncMongoClient`; {rounds} interleaved "
        f"rounds of {_REQUESTS} requests. Requests and commands are measured on both sides.",
    )
    if find_spec("nx_27017") is None:
        report.leave_out("routes", "nx-27017 is not installed")
        return
    with nx27017() as server:
        found = asyncio.run(_measured(server.uri, rounds))
    missing = unnamed()
    report.text(f"Of {len(seeded.CASES)} seeded faults all are named but: {', '.join(missing) or 'none'}.")
    report.figure("routes.unnamed", 100 * len(missing) / len(seeded.CASES))
    base = found[_WITHOUT]
    report.table(
        ("request", "median µs", "± µs", "added µs"),
        [
            [name, *(f"{value:.1f}" for value in (median(own), spread(own), added(own, base)))]
            for name, own in found.items()
        ],
    )
    share = 100 * (paired(found[_WITH], base) - 1)
    ours, theirs = (f"{median(own):.0f} µs" for own in (found[_WITH], base))
    report.figure("routes.cost", share, ours=ours, peer=theirs)


def unnamed() -> list[str]:
    """The seeded faults that a service does not name, asked until it names all or half a minute has passed."""
    token = "token-of-the-benchmark"
    with ExitStack() as stack:
        server = stack.enter_context(nx27017())
        proxy = stack.enter_context(seeded.cutting(server.address))
        blocking: MongoClient[dict[str, Any]] = stack.enter_context(closing(MongoClient(server.uri)))
        seeded.fill(blocking.shop)
        to = seeded.Databases(
            AsyncMongoClient[dict[str, Any]](server.uri).shop,
            blocking.shop,
            AsyncMongoClient[dict[str, Any]](f"mongodb://127.0.0.1:{proxy.port}").shop,
            proxy,
        )
        app = seeded.application(to)
        state = Path(stack.enter_context(TemporaryDirectory()))
        service = MonitoringService(
            to.db, admin_token=token, state_dir=state, explain=True, slow_command_ms=2.0, sample_interval=0.5
        ).instrument(app)
        service.measure_client(blocking)
        service.measure_client(to.cut.client)
        running = ThreadedServer(app)
        stack.callback(running.stop)
        http = stack.enter_context(httpx.Client(base_url=running.url, trust_env=False, timeout=60))
        for case in seeded.CASES:
            http.get(f"/{case.name}").raise_for_status()
        seeded.nightly(blocking.shop)
        for _ in range(30):
            answer = http.get("/api/health/diagnostics", headers={"authorization": f"Bearer {token}"}).json()
            missing = seeded.missing(answer["database"]["routes"])
            if not missing:
                break
            time.sleep(1)
        return missing


async def _measured(uri: str, rounds: Rounds) -> dict[str, list[float]]:
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(uri)
    reader = SnapshotReader(0.0)
    meters = GuardedMeterProvider([reader], shutdown_on_exit=False)
    try:
        await client.shop.items.insert_many([{"_id": number} for number in range(_COMMANDS)])
        listening = attach(client.shop, tracer_provider=None, meter_provider=meters, direct=reader.direct)
        recorder = WorkRecorder(WorkMetrics(meters, reader.direct))
        apps = {
            _WITHOUT: Client(_application(client.shop, meters, reader, None)),
            _WITH: Client(_application(client.shop, meters, reader, recorder)),
        }
        found: dict[str, list[float]] = {name: [] for name in apps}
        shuffled, order = random.Random(1), list(apps)
        for client_of in apps.values():
            await _cost(client_of)
        for number in rounds:
            if number % 100 == 0:
                say(f"round {number}")
            shuffled.shuffle(order)
            gc.collect()
            for name in order:
                found[name].append(await _cost(apps[name]) * _MICRO)
            recorder.take()
        listening.detach()
    finally:
        await client.close()
    return found


async def _cost(client: Client) -> float:
    began = time.process_time()
    statuses = await client.statuses([Call("GET", "/items")], _REQUESTS)
    took = time.process_time() - began
    assert set(statuses) == {200}
    return took / _REQUESTS


def _application(db: Any, meters: Any, reader: SnapshotReader, recorder: WorkRecorder | None) -> FastAPI:
    app = FastAPI()

    @app.get("/items")
    async def items() -> int:
        for number in range(_COMMANDS):
            await db.items.find_one({"_id": number})
        return _COMMANDS

    instrument_app(
        app,
        tracer_provider=NoOpTracerProvider(),
        meter_provider=meters,
        logger_provider=None,
        options=RequestOptions(
            exclude=lambda _: False,
            tracing=False,
            logs=False,
            on_error=lambda _: None,
            on_first_request=lambda: None,
            database=recorder,
        ),
        durations=reader.direct("http.server.request.duration"),
    )
    return app
