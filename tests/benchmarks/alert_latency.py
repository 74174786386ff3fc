"""From a killed database to the mail that says so, at default settings: `python -m tests.benchmarks.alert_latency`.

One service under light traffic, one real SMTP server; the database is killed, and started again, a number of times.
"""

import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from tests.integration.processes import Service, serving
from tests.integration.receivers import Loop, Mailbox, smtp
from tests.integration.servers import Server, nx27017

GOAL_SECONDS = 5.0
_PATIENCE = 120.0
_SOURCE = """
import os
from fastapi import FastAPI
from pymongo import AsyncMongoClient
from otel_monitoring import MonitoringService

app = FastAPI(title="orders")
db = AsyncMongoClient(os.environ["MONGODB_URI"])["shop"]
monitoring = MonitoringService(db).instrument(app)

@app.get("/order")
async def order():
    await db.orders.find_one({})
"""


def main(rounds: int = 10) -> None:
    """Measure with traffic, where a failed command tells first, and without, where a heartbeat or a ping does."""
    sys.stdout.write("| | median s | worst s | rounds |\n|---|---:|---:|---:|\n")
    for traffic in (True, False):
        seconds = _measure(rounds, traffic=traffic)
        what = "5 requests a second" if traffic else "no traffic"
        sys.stdout.write(f"| {what} | {statistics.median(seconds):.2f} | {max(seconds):.2f} | {len(seconds)} |\n")
        sys.stdout.flush()
    sys.stdout.write(f"\ngoal: at most {GOAL_SECONDS:g} s\n")


def _measure(rounds: int, *, traffic: bool) -> list[float]:
    loop = Loop()
    with TemporaryDirectory() as folder, nx27017() as database, loop.serve(smtp(Mailbox())) as mailbox:
        env: dict[str, Any] = {
            "MONGODB_URI": database.uri,
            "SMTP_SERVER": "localhost",
            "SMTP_PORT": str(mailbox.port),
            "SMTP_SECURITY": "none",
            "ALERT_EMAIL_FROM": "orders@example.com",
            "ALERT_EMAIL_TO": "ops@example.com",
        }
        with serving(Path(folder), _SOURCE, **env) as service:
            stop = threading.Event()
            sending = threading.Thread(target=_send, args=(service, stop), daemon=True)
            if traffic:
                sending.start()
            try:
                return [_round(database, mailbox) for _ in range(rounds)]
            finally:
                stop.set()


def _round(database: Server, mailbox: Mailbox) -> float:
    time.sleep(2)
    before = len(mailbox.mails)
    began = time.monotonic()
    database.kill()
    _until(lambda: len(mailbox.mails) > before)
    seconds = time.monotonic() - began
    database.start()
    _until(lambda: len(mailbox.mails) > before + 1)
    return seconds


def _send(service: Service, stop: threading.Event) -> None:
    """About five requests a second, each on its own: those that wait for the dead database delay no other."""

    def one() -> None:
        try:
            httpx.get(f"{service.url}/order", timeout=40)
        except httpx.HTTPError:
            return

    while not stop.wait(0.2):
        threading.Thread(target=one, daemon=True).start()


def _until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError("no mail")
        time.sleep(0.01)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
