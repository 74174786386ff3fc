"""Sends HTTP traffic to the EarlyBird API, within bounds.

`await run("http://127.0.0.1:8000", requests=1000, seed=1)` sends a thousand requests and returns their report.
From a shell: `python -m examples.earlybird.traffic http://127.0.0.1:8000 --seconds 60`.
"""

import argparse
import asyncio
import itertools
import math
import os
import random
from contextlib import suppress

import httpx

from examples.earlybird.visitors import Report, Visitors

MAX_IN_FLIGHT = 64
DRAIN_SECONDS = 3.0
FIRST_CUSTOMERS = 3


async def run(
    base_url: str,
    *,
    requests: int | None = None,
    seconds: float | None = None,
    rate: float | None = 30.0,
    seed: int | None = None,
    staff_token: str | None = None,
    report: Report | None = None,
) -> Report:
    """Send traffic until a bound is reached or the task is cancelled, then wait for the outstanding answers.

    Args:
        base_url: The URL of the API.
        requests: The number of requests; None: no bound.
        seconds: The duration; None: no bound.
        rate: Requests per second on average; None: as many as `MAX_IN_FLIGHT` at once allow.
        seed: The same seed sends the same kinds of requests in the same order.
        staff_token: The API's `EARLYBIRD_STAFF_TOKEN`; that of the environment when not given.
        report: The report to count in, for callers that read it meanwhile.
    """
    token = staff_token if staff_token is not None else os.environ.get("EARLYBIRD_STAFF_TOKEN", "")
    # One connection for each request: uvicorn closes a connection after an unhandled exception without notice, and a
    # request that is just sent on it would be lost, counted here and not by the API.
    limits = httpx.Limits(max_connections=MAX_IN_FLIGHT, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=base_url, timeout=30, limits=limits, trust_env=False) as client:
        visitors = Visitors(client, report if report is not None else Report(), seed=seed, staff_token=token)
        in_flight: set[asyncio.Future[None]] = set()
        try:
            await _send_all(visitors, in_flight, requests=requests, seconds=seconds, rate=rate)
            await asyncio.gather(*in_flight)  # the client's timeout ends each
        finally:
            await _drain(in_flight)
    return visitors.report


async def _send_all(
    visitors: Visitors,
    in_flight: set[asyncio.Future[None]],
    *,
    requests: int | None,
    seconds: float | None,
    rate: float | None,
) -> None:
    now = asyncio.get_running_loop().time
    end = now() + (math.inf if seconds is None else seconds)
    due = now()
    for sent in itertools.count():
        if sent == requests or now() >= end:
            return
        if sent < FIRST_CUSTOMERS:
            await visitors.sign_up(random.Random(sent))
            continue
        if len(in_flight) >= MAX_IN_FLIGHT:
            done, _ = await asyncio.wait(in_flight, return_when=asyncio.FIRST_COMPLETED)
            in_flight -= done
        if rate is not None:
            due = max(due, now() - 1) + visitors.pause_before_next(rate)
            await asyncio.sleep(due - now())
        task = asyncio.ensure_future(visitors.next_request())
        in_flight.add(task)
        task.add_done_callback(in_flight.discard)


async def _drain(in_flight: set[asyncio.Future[None]]) -> None:
    """Whoever cancels waits for the answers under way, so that both sides count the same, but not for long."""
    if in_flight:
        _, late = await asyncio.wait(in_flight, timeout=DRAIN_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Send traffic to an EarlyBird API (EARLYBIRD_STAFF_TOKEN as it has).")
    parser.add_argument("base_url", nargs="?", default="http://127.0.0.1:8000")
    parser.add_argument("--requests", type=int, help="how many requests")
    parser.add_argument("--seconds", type=float, default=60.0, help="for how long (60)")
    parser.add_argument("--rate", type=float, default=30.0, help="requests per second (30)")
    parser.add_argument("--seed", type=int, help="the same seed sends the same requests")
    given = parser.parse_args()
    report = Report()
    with suppress(KeyboardInterrupt):
        asyncio.run(run(**vars(given), report=report))
    for (method, route, status), count in sorted(report.answers.items(), key=lambda answer: answer[0][1]):
        print(f"{count:7d}  {status or 'none'}  {method:5s} {route}")


if __name__ == "__main__":
    main()
