"""Several worker processes are one service: its totals equal what was sent and never go back, come what may."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.processes import Service, serving
from tests.integration.servers import nx27017
from tests.ports import free_port
from tests.waiting import eventually

pytestmark = pytest.mark.integration

SOURCE = """
import asyncio

from fastapi import FastAPI, HTTPException

from otel_monitoring import MonitoringService

app = FastAPI(title="orders")
monitoring = MonitoringService(None).instrument(app)


@app.get("/orders/{number}")
async def order(number: int):
    await asyncio.sleep(0.001)
    if number % 10 == 4:
        raise HTTPException(404)
    return number
"""
UVICORN_WORKER = ("gunicorn", "-k", "uvicorn.workers.UvicornWorker")
FAST: dict[str, Any] = {"OTEL_MONITORING_SAMPLE_INTERVAL": "1"}


class Traffic:
    """Requests that it counts, and polls of `/health/metrics` that must never go back, both in threads."""

    def __init__(self, service: Service) -> None:
        self._url = service.url
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self.answered = 0
        """Requests that were answered: each of them counts."""
        self.unclear = 0
        """Requests whose connection broke: they may have counted."""
        self.polled: list[int] = []
        self.errors: list[str] = []

    def requests(self, count: int) -> None:
        """Send requests, each with a connection of its own, so that every worker has its turn."""

        def send(numbers: range) -> None:
            for number in numbers:
                try:
                    httpx.get(f"{self._url}/orders/{number}", timeout=60)
                except httpx.TransportError:
                    with self._lock:
                        self.unclear += 1
                else:
                    with self._lock:
                        self.answered += 1

        _together([lambda start=start: send(range(start, count, 4)) for start in range(4)])  # type: ignore[misc]

    def _poll(self) -> None:
        while not self._ending.wait(0.05):
            try:
                answer = httpx.get(f"{self._url}/api/health/metrics", timeout=60)
            except httpx.TransportError:
                continue  # the worker was killed
            if answer.status_code != 200:
                self.errors.append(answer.text)
            else:
                self.polled.append(answer.json()["requests_recorded"])

    @contextmanager
    def polling(self) -> Iterator["Traffic"]:
        thread = threading.Thread(target=self._poll)
        thread.start()
        try:
            yield self
        finally:
            self._ending.set()
            thread.join()
        assert self.errors == []
        assert self.polled == sorted(self.polled), "a total went back"
        assert len(self.polled) > 5


def _together(work: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=each) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def total(service: Service) -> int | None:
    answer = service.ask("/api/health/metrics")
    return None if answer is None else int(answer.raise_for_status().json()["requests_recorded"])


def instances(service: Service) -> list[dict[str, Any]]:
    answer = service.ask("/api/health/detailed")
    return [] if answer is None else list(answer.raise_for_status().json()["instances"])


def has(service: Service, count: int) -> None:
    """Wait until so many requests are counted; then whoever is asked has the same figures."""
    eventually(lambda: total(service) == count, f"{count} requests are counted")
    polls = [service.get("/api/health/metrics").json() for _ in range(8)]
    figures = {(poll["requests_recorded"], poll["p95_response_time"], poll["since"]) for poll in polls}
    assert len(figures) == 1, f"eight polls, one story: {figures}"


@pytest.mark.parametrize(
    "runner",
    [("uvicorn", "--workers", "4"), (*UVICORN_WORKER, "-w", "3"), (*UVICORN_WORKER, "-w", "3", "--preload")],
    ids=["uvicorn", "gunicorn", "gunicorn-preload"],
)
def test_eight_polls_tell_one_story(tmp_path: Path, runner: tuple[str, ...]) -> None:
    with serving(tmp_path, SOURCE, runner=runner, **FAST) as service, Traffic(service).polling() as traffic:
        traffic.requests(200)
        assert (traffic.answered, traffic.unclear) == (200, 0)
        has(service, 200)
        workers = int(runner[runner.index("-w" if "-w" in runner else "--workers") + 1])
        eventually(lambda: len(instances(service)) == workers, "every worker is listed")
        listed = instances(service)
        assert len({one["pid"] for one in listed}) == workers
        assert sum(one["leads"] for one in listed) == 1
        alone = [
            service.get("/api/health/metrics?scope=instance").json()["requests_recorded"] for _ in range(4 * workers)
        ]
        assert all(0 <= count < 200 for count in alone)


def test_workers_that_are_recycled_leave_their_counts_behind(tmp_path: Path) -> None:
    runner = (*UVICORN_WORKER, "-w", "2", "--max-requests", "40", "--max-requests-jitter", "10")
    with serving(tmp_path, SOURCE, runner=runner, **FAST) as service, Traffic(service).polling() as traffic:
        before = {one["pid"] for one in instances(service)}
        traffic.requests(240)
        eventually(lambda: not before & {one["pid"] for one in instances(service)}, "every worker was replaced")
        eventually(
            lambda: traffic.answered <= (total(service) or 0) <= traffic.answered + traffic.unclear, "all are counted"
        )


def test_a_leader_that_is_killed_leaves_its_counts_behind(tmp_path: Path) -> None:
    runner = ("uvicorn", "--workers", "3")
    with serving(tmp_path, SOURCE, runner=runner, **FAST) as service, Traffic(service).polling() as traffic:
        traffic.requests(150)
        has(service, 150)
        leader = eventually(lambda: next((one for one in instances(service) if one["leads"]), None), "one leads")
        os.kill(leader["pid"], signal.SIGKILL)

        def another() -> bool:
            listed = instances(service)
            leading = [one["instance_id"] for one in listed if one["leads"]]
            return bool(leading) and leader["instance_id"] not in {one["instance_id"] for one in listed}

        eventually(another, "another one leads, and the killed one is not listed")
        assert total(service) == 150
        traffic.requests(150)
        eventually(
            lambda: traffic.answered <= (total(service) or 0) <= traffic.answered + traffic.unclear, "all are counted"
        )


def test_a_restart_loses_no_count(tmp_path: Path) -> None:
    port = free_port()
    since = set()
    for turn in (1, 2):
        with serving(tmp_path, SOURCE, runner=("uvicorn", "--workers", "2"), port=port, **FAST) as service:
            traffic = Traffic(service)
            traffic.requests(100)
            has(service, 100 * turn)
            since.add(service.get("/api/health/detailed").json()["since"])
            service.stop()
    assert len(since) == 1


def test_a_rolling_restart_loses_no_count(tmp_path: Path) -> None:
    """Two deployments of the same service beside one another, as a load balancer has them for a while."""
    folders = [tmp_path / "old", tmp_path / "new"]
    for folder in folders:
        folder.mkdir()
    state: dict[str, Any] = {**FAST, "OTEL_MONITORING_STATE_DIR": str(tmp_path / "state")}
    with serving(folders[0], SOURCE, runner=("uvicorn", "--workers", "2"), **state) as old:
        Traffic(old).requests(80)
        has(old, 80)
        with serving(folders[1], SOURCE, runner=("uvicorn", "--workers", "2"), **state) as new:
            has(new, 80)
            Traffic(new).requests(40)
            has(old, 120)
            old.stop()
            Traffic(new).requests(40)
            has(new, 160)
            eventually(lambda: len(instances(new)) == 2, "the old ones have left")


def test_two_hosts_are_one_service(tmp_path: Path) -> None:
    """Two state directories, one database: a host that is killed and a database that is away lose no count."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    with nx27017() as database:
        shared: dict[str, Any] = {
            **FAST,
            "OTEL_MONITORING_STORE": "mongodb",
            "OTEL_MONITORING_STORE_URI": f"{database.uri}/shop",
            "runner": ("uvicorn", "--workers", "2"),
        }
        with serving(folders[0], SOURCE, **shared) as one, serving(folders[1], SOURCE, **shared) as two:
            Traffic(one).requests(40)
            Traffic(two).requests(40)
            has(one, 80)
            has(two, 80)
            eventually(lambda: len(instances(one)) == 4, "every worker is listed")
            database.freeze()
            Traffic(one).requests(20)
            eventually(lambda: "incomplete" in one.get("/api/health/metrics").json(), "the database is away")
            database.thaw()
            eventually(lambda: "incomplete" not in one.get("/api/health/metrics").json(), "it is back")
            has(two, 100)
            os.killpg(one.process.pid, signal.SIGKILL)
            Traffic(two).requests(20)
            has(two, 120)
            eventually(lambda: len(instances(two)) == 2, "the killed host is not listed")
