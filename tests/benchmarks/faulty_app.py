"""The example with a fault that a file switches on: `FAULT` names it, `FAULT_SWITCH` is the file.

The file has the strength of the fault: a fast machine needs more of it until anybody notices. Faults are what goes
wrong in services: slow queries, broken code, connections that run out. Nothing here tells the monitoring which it is.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from fastapi import Request

from examples.earlybird import providers
from examples.earlybird.app import app
from examples.earlybird.database import get_db
from otel_monitoring.alerts import AlertType, Gauge, Rule
from otel_monitoring.monitoring import get_monitoring
from otel_monitoring.semconv import PROCESS_CPU_UTILIZATION

NAME = os.environ["FAULT"]
SWITCH = Path(os.environ["FAULT_SWITCH"])
PROVIDER = os.environ.get("FAULT_PROVIDER", "")
ROUTE = os.environ.get("FAULT_ROUTE", "")
COLLECTION = os.environ.get("FAULT_COLLECTION", "deliveries")
_BAD_WORKERS = int(os.environ.get("FAULT_WORKERS", "1"))
_LEAK = 40_000_000
_LEAK_LIMIT = 1_700_000_000
_leaked: list[bytearray] = []
Fault = Callable[[Any, float], Awaitable[None]]


class BrokenError(Exception):
    """What the faulty code raises."""


async def _scan(db: Any, times: float = 3) -> None:
    """Queries without an index."""
    for _ in range(round(times)):
        await db[COLLECTION].find({"note": {"$regex": "no such [a-z]+ note$"}}).to_list()


async def _slow_query(db: Any, strength: float) -> None:
    await _scan(db, 3 * strength)


async def _raise(_: Any, __: float) -> None:
    raise BrokenError("the total of order 4711 is negative")


async def _look_up(_: Any, __: float) -> None:
    settings: dict[str, str] = {}
    settings["currency"]


async def _raise_in_bad_worker(_: Any, __: float) -> None:
    if _is_bad_worker():
        raise BrokenError("cannot read the key file /srv/keys/signing.pem")


async def _burn_cpu(_: Any, strength: float) -> None:
    until = time.thread_time() + 0.1 * strength
    while time.thread_time() < until:
        sum(number * number for number in range(1000))


async def _block_loop(_: Any, strength: float) -> None:
    time.sleep(2.5 * strength)  # noqa: ASYNC251 - the fault


async def _leak(_: Any, __: float) -> None:
    if len(_leaked) * _LEAK < _LEAK_LIMIT:
        _leaked.append(bytearray(b"x" * _LEAK))


async def _hold_connections(db: Any, strength: float) -> None:
    await asyncio.gather(*(_scan(db) for _ in range(round(3 * strength))))


async def _no_fault(_: Any, __: float) -> None:
    """The fault is outside of the application."""


FAULTS: Mapping[str, Fault] = {
    "slow query": _slow_query,
    "one bad worker": _raise_in_bad_worker,
    "one route failing": _raise,
    "bad release": _raise,
    "pool exhausted": _hold_connections,
    "CPU hog": _burn_cpu,
    "blocked loop": _block_loop,
    "memory growth": _leak,
    "provider down": _no_fault,
    "provider slow": _no_fault,
    "collection grown": _no_fault,
    "missing key": _look_up,
}


def _is_bad_worker() -> bool:
    """Whether this process is among the first that asked."""
    for number in range(_BAD_WORKERS):
        try:
            with SWITCH.with_suffix(f".worker{number}").open("x") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            if SWITCH.with_suffix(f".worker{number}").read_text() != str(os.getpid()):
                continue
        return True
    return False


async def faulty_db(request: Request) -> Any:
    """The database of an endpoint, in the way of which the fault is."""
    db = get_db(request)
    if _concerns(request.method, request.url.path):
        if NAME == "collection grown":  # the query is fast while the collection is small
            await _scan(db)
        with suppress(FileNotFoundError):
            await FAULTS[NAME](db, float(SWITCH.read_text()))  # noqa: ASYNC240 - it takes microseconds
    return db


def _concerns(method: str, path: str) -> bool:
    faulty_method, _, faulty_path = ROUTE.partition(" ")
    pattern, parts = faulty_path.split("/"), path.split("/")
    fits = len(pattern) == len(parts) and all(
        one.startswith("{") or one == part for one, part in zip(pattern, parts, strict=True)
    )
    return not ROUTE or (method == faulty_method and fits)


async def _charge(cents: int) -> str:
    """Charge a card at a provider that is another process."""
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        answer = await client.post(f"{PROVIDER}/charges", json={"cents": cents})
        answer.raise_for_status()
        return str(answer.json()["id"])


if PROVIDER:
    providers.charge = _charge
app.dependency_overrides[get_db] = faulty_db
monitoring = get_monitoring()
if NAME == "CPU hog" and monitoring is not None:
    # The host's CPU is also used by others, such as the database.
    busy = Gauge(PROCESS_CPU_UTILIZATION, "1", scale=100)
    monitoring.add_rule(Rule("busy_process", busy, ">", 12, type=AlertType.HIGH_CPU, hold=3))
