"""What a worker can be told to do. Each function takes the host and JSON-able arguments and returns what it found."""

import asyncio
import gc
import gzip
import json
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.application import calls
from tests.benchmarks.client import Call, Client
from tests.benchmarks.setups import Instrumented

_random = random.Random(27)


@dataclass(frozen=True, slots=True)
class Host:
    """The application in this process."""

    client: Client
    instrumented: Instrumented
    routes: int


async def requests(host: Host, count: int, path: str | None = None, distinct: int | None = None) -> dict[str, float]:
    """Make requests to every route in turn, or to one path, and say what one cost.

    Args:
        host: Where.
        count: How many.
        path: One path instead of every route.
        distinct: How many routes to call, the last ones of the application; all if not given.

    Returns:
        CPU seconds per request: `process`, of all threads, with what the exporters did until everything was sent, and
        `thread`, of the loop's thread alone.
    """
    to_call = calls(host.routes)[-(distinct or 0) :] if path is None else [Call("GET", path)]
    gc.collect()
    process, thread = time.process_time(), time.thread_time()
    statuses = await host.client.statuses(to_call, count)
    thread = time.thread_time() - thread
    host.instrumented.flush()
    process = time.process_time() - process
    if max(statuses) >= 400:
        raise RuntimeError(f"a request was answered with {statuses}")
    return {"process": process / count, "thread": thread / count}


async def unsent(host: Host, count: int) -> None:
    """Make requests to every route in turn, and wait for no export of what they produced."""
    await host.client.statuses(calls(host.routes), count)


async def proof(host: Host) -> str:
    """Look whether the instrumentation has measured anything; what is missing, or an empty text."""
    if host.instrumented.proof is None:
        return ""
    path, text = host.instrumented.proof
    status, body = await host.client.get(path)
    return "" if text in body.decode() else f"{path} answers {status} without {text!r}"


async def resident(host: Host) -> int:
    """Bytes of resident memory, once garbage is collected."""
    gc.collect()
    return _resident()


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def hostile(host: Host, count: int) -> None:
    """Make requests that differ in everything a client can choose: path, query, method, host, headers."""
    for _ in range(count // 100):
        await host.client.statuses([_hostile_call() for _ in range(100)], 100)


def _hostile_call() -> Call:
    word = f"{_random.getrandbits(64):016x}"
    kind = _random.randrange(4)
    path = (f"/{word}", f"/v1/resource-0/items/{word}", f"/v1/{word}/items", f"/v1/resource-1/items/{kind}")[kind]
    method = word.upper() if kind == 3 else "GET"
    host = (b"host", f"{word}.example.com:{_random.randrange(1, 65535)}".encode())
    agent = (b"user-agent", word.encode())
    parent = (b"traceparent", f"00-{word}{word}-{word}-01".encode())
    return Call(method, path, query=f"{word}={word}".encode(), headers=(host, agent, parent))


async def fill(host: Host, statuses: list[int], each: int) -> int:
    """Record `each` durations, log-normal around 20 ms, for every route and status; returns the number of series."""
    metrics = host.instrumented.service.performance_metrics
    routes = sorted({f"{call.method} {call.path}" for call in calls(host.routes)})
    for route in routes:
        for status in statuses:
            for _ in range(each):
                await metrics.record_request(route, _random.lognormvariate(-3.9, 1.0), status)
            await asyncio.sleep(0)
    return len(routes) * len(statuses)


async def answer(host: Host, path: str) -> dict[str, float]:
    """CPU seconds of the whole process for one answer, its wall time and size."""
    gc.collect()
    wall, process = time.perf_counter(), time.process_time()
    status, body = await host.client.get(path)
    process, wall = time.process_time() - process, time.perf_counter() - wall
    if status != 200:
        raise RuntimeError(f"{path} answers {status}")
    return {"process": process, "wall": wall, "bytes": len(body)}


async def lag(host: Host, path: str | None, seconds: float = 1.0) -> float:
    """The longest time that a sleep of a millisecond overslept while `path` was answered (None: nothing)."""
    gc.collect()
    task = asyncio.ensure_future(host.client.get(path) if path is not None else asyncio.sleep(seconds))
    worst = 0.0
    while not task.done():
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        worst = max(worst, time.perf_counter() - began - 0.001)
    await task
    return worst


async def idle(host: Host, seconds: float) -> float:
    """CPU seconds per second while nobody asks for anything."""
    process = time.process_time()
    await asyncio.sleep(seconds)
    return (time.process_time() - process) / seconds


async def pages(host: Host, count: int, seconds: float) -> dict[str, float]:
    """So many open status pages.

    Returns:
        `process`, CPU seconds a second; `first` and `later`, bytes of a page's first update (with gzip, as a browser
        asks for it) and of the largest one after it (as it is unpacked); `every`, of one with every endpoint, unpacked;
        0 without a page.
    """
    gc.collect()
    process, until = time.process_time(), time.perf_counter() + seconds
    sizes, _ = await asyncio.gather(asyncio.gather(*(_page(host, until) for _ in range(count))), asyncio.sleep(seconds))
    used = (time.process_time() - process) / seconds
    first, later = (max(column) for column in zip((0, 0), *sizes, strict=True))
    every = len(gzip.decompress(await _update(host, "all"))) if count else 0
    return {"process": used, "first": first, "later": later, "every": every}


async def _page(host: Host, until: float) -> tuple[int, int]:
    """Ask as a page does; bytes of the first update as it comes, and of the largest later one, unpacked."""
    sizes, interval = list[int](), 0.0
    while (left := until - time.perf_counter()) > interval:
        await asyncio.sleep(interval)
        body = await _update(host, "first")
        plain = gzip.decompress(body)
        interval = json.loads(plain)["interval"]
        sizes.append(len(plain) if sizes else len(body))
    await asyncio.sleep(max(0.0, left))
    return sizes[0], max(sizes[1:], default=0)


async def _update(host: Host, endpoints: str) -> bytes:
    status, body = await host.client.get("/api/status/update", f"endpoints={endpoints}".encode())
    if status != 200:
        raise RuntimeError(f"an update is answered with {status}")
    return body


async def profile(host: Host, count: int, path: str | None = None) -> str:
    """Where the time of `requests` goes, by function, as text."""
    import cProfile
    import io
    import pstats

    profiler = cProfile.Profile()
    to_call: list[Any] = calls(host.routes) if path is None else [Call("GET", path)]
    profiler.enable()
    await host.client.statuses(to_call, count)
    profiler.disable()
    out = io.StringIO()
    pstats.Stats(profiler, stream=out).sort_stats("tottime").print_stats(45)
    return out.getvalue()
