"""Several worker processes of a host are one service: its totals equal what was sent and never go back."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.answers import answers_are_the_services, python_and_command_line_say_the_same
from tests.integration.load import Load
from tests.integration.polls import Polls
from tests.integration.processes import Service, serving
from tests.ports import free_port
from tests.waiting import eventually

pytestmark = pytest.mark.integration

SOURCE = """
import asyncio, os
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from opentelemetry.metrics import Observation
from otel_monitoring import MonitoringService

app = FastAPI(title="orders", version="1.4.2")
monitoring = MonitoringService(None).instrument(app)
monitoring.meter.create_observable_gauge("heat", [lambda _: [Observation(os.getpid())]])
placed = monitoring.meter.create_counter("orders.placed")

@app.get("/orders/{number}")
@app.post("/orders/{number}")
async def order(number: int):
    await asyncio.sleep(0.001)
    placed.add(1)
    return JSONResponse(os.getpid(), status_code=404 if number % 10 == 4 else 503 if number % 10 == 7 else 200)

@app.get("/python")
async def python():
    return {
        "summary": await monitoring.performance_metrics.get_summary(),
        "health": await monitoring.get_health_status(),
        "diagnostics": await monitoring.get_detailed_diagnostics(),
    }
"""
UVICORN = ("uvicorn", "--log-level", "warning")
GUNICORN = ("gunicorn", "-k", "uvicorn.workers.UvicornWorker")
FAST: dict[str, Any] = {
    "OTEL_MONITORING_SAMPLE_INTERVAL": "1",
    "OTEL_PYTHON_EXCLUDED_URLS": "/python",
    # A stop that is cut short may lose counts: on a busy machine it takes its time.
    "OTEL_MONITORING_SHUTDOWN_TIMEOUT": "60",
}


@contextmanager
def under_load(*ports: int) -> Iterator[Load]:
    """Load and polls until it is left; no poll may go back."""
    with Polls(ports, in_file=True), Load(ports, threads=2, pause=0.005) as load:
        yield load


def get(service: Service, path: str) -> Any:
    return service.get(path).raise_for_status().json()


def instances(service: Service) -> list[dict[str, Any]]:
    """Those that a worker lists; where the one that is asked ends meanwhile, another one is asked."""
    answer = eventually(lambda: service.ask("/api/health/detailed"), "a worker answers")
    return list(answer.raise_for_status().json()["instances"])


def counted(load: Load, *services: Service) -> None:
    """Wait until the services have counted what was sent, while nothing more is; then all polls tell one story."""
    sent = load.total
    figures: set[tuple[Any, ...]] = set()

    def asked() -> bool:
        figures.clear()
        for service in services * 8:
            figure = get(service, "/api/health/metrics")
            figures.add((figure["requests_recorded"], figure["p95_response_time"], figure["since"]))
        return len(figures) == 1 and all(sent <= figure[0] <= sent + load.unclear for figure in figures)

    try:
        eventually(asked, "all requests are counted")
    except AssertionError as error:
        raise AssertionError(f"sent {sent}, unclear {load.unclear}, counted {sorted(figures)}") from error


@pytest.mark.long
def test_four_workers_one_of_which_is_killed_and_a_restart(tmp_path: Path) -> None:
    port, workers = free_port(), 4
    runner = (*UVICORN, "--workers", str(workers))
    with under_load(port) as load:
        with serving(tmp_path, SOURCE, runner=runner, port=port, **FAST) as service:
            eventually(lambda: len(instances(service)) == workers, "every worker is listed")
            load.grows(100)
            with load.paused():
                counted(load, service)
                [host] = {one["host"] for one in instances(service)}
                answers_are_the_services(
                    lambda path: get(service, path),
                    processes=workers,
                    hosts={host},
                    sent=load.answered,
                    database="unknown",
                )
                python_and_command_line_say_the_same(lambda path: get(service, path), service.url, load.total)
                leader = next(one for one in instances(service) if one["leads"])
                os.kill(leader["pid"], signal.SIGKILL)

            def another() -> bool:
                listed = instances(service)
                known = {one["instance_id"] for one in listed}
                return any(one["leads"] for one in listed) and leader["instance_id"] not in known

            eventually(another, "another one leads, and the killed one is not listed")
            with load.paused():
                counted(load, service)
            service.stop()
        with serving(tmp_path, SOURCE, runner=runner, port=port, **FAST) as service:
            load.grows(20)
            with load.paused():
                counted(load, service)


def test_workers_that_are_recycled_leave_their_counts_behind(tmp_path: Path) -> None:
    runner = (*GUNICORN, "-w", "2", "--max-requests", "40", "--max-requests-jitter", "10")
    port = free_port()
    with under_load(port) as load:
        with serving(tmp_path, SOURCE, runner=runner, port=port, **FAST) as service:
            before = {one["pid"] for one in instances(service)}
            eventually(lambda: not before & {one["pid"] for one in instances(service)}, "every worker was replaced")
            with load.paused():
                service.stop()
        with serving(tmp_path, SOURCE, runner=UVICORN, port=port, **FAST) as service, load.paused():
            counted(load, service)


def test_a_rolling_restart_of_preloaded_workers(tmp_path: Path) -> None:
    """Two deployments of the same service beside one another, as a load balancer has them for a while."""
    folders = [tmp_path / "old", tmp_path / "new"]
    for folder in folders:
        folder.mkdir()
    state: dict[str, Any] = {**FAST, "OTEL_MONITORING_STATE_DIR": str(tmp_path / "state")}
    runner = (*GUNICORN, "-w", "2", "--preload")
    ports = free_port(), free_port()
    with under_load(*ports) as load, serving(folders[0], SOURCE, runner=runner, port=ports[0], **state) as old:
        eventually(lambda: len(instances(old)) == 2, "both workers are listed")
        load.grows(40)
        with serving(folders[1], SOURCE, runner=runner, port=ports[1], **state) as new:
            eventually(lambda: len(instances(old)) == 4, "all workers are listed")
            with load.paused():
                counted(load, old, new)
            old.stop()
            load.grows(40)
            eventually(lambda: len(instances(new)) == 2, "the old ones have left")
            with load.paused():
                counted(load, new)


def test_a_reload_loses_no_count(tmp_path: Path) -> None:
    port = free_port()
    runner = (*UVICORN, "--reload")
    with serving(tmp_path, SOURCE, runner=runner, port=port, **FAST) as service, under_load(port) as load:
        for reload in (1, 2):
            load.grows(20)
            [before] = instances(service)
            (tmp_path / "service.py").write_text(f"{SOURCE}\nRELOADED = {reload}\n")
            eventually(lambda: before["pid"] not in {one["pid"] for one in instances(service)}, "it is another process")  # noqa: B023
            with load.paused():
                counted(load, service)
