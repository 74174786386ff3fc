"""How fast this machine is now, by a request to the bare application: what absolute figures are scaled by."""

import asyncio
from functools import cache
from statistics import median

from tests.benchmarks import setups
from tests.benchmarks.client import Client
from tests.benchmarks.operations import Host, requests

REFERENCE_MICROSECONDS = 140.0
"""CPU of one request where the figures of docs/benchmarks.md come from: two shared cores, Python 3.11."""
_ROUTES = 40
_BATCHES = 5
_REQUESTS = 100
_MICRO = 1e6


def slowness() -> float:
    """CPU time that the same work takes here, to what it takes on the reference machine."""
    return asyncio.run(_microseconds()) / REFERENCE_MICROSECONDS


@cache
def _bare() -> setups.Instrumented:
    return setups.bare(_ROUTES)


async def _microseconds() -> float:
    instrumented = _bare()
    client = Client(instrumented.app)
    await client.start()
    host = Host(client, instrumented, _ROUTES)
    batches = [(await requests(host, _REQUESTS))["process"] * _MICRO for _ in range(_BATCHES + 1)]
    await client.stop()
    return median(batches[1:])
