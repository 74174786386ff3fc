"""`LiveLine`: the demo's line with status, rate, p95 and errors, from the API's own monitoring endpoints."""

import asyncio
import sys
import time
from collections import deque
from typing import Any

import httpx

RATE_SECONDS = 10.0
TERMINAL_SECONDS = 1.0
LOG_SECONDS = 5.0


class LiveLine:
    """Asks the endpoints and prints one line: in a terminal in the same place, elsewhere again and again."""

    def __init__(self, monitoring_url: str, admin_token: str) -> None:
        self._url = monitoring_url
        self._headers = {"Authorization": f"Bearer {admin_token}"}
        self._counts = deque([(time.monotonic(), 0)])
        self._in_place = sys.stdout.isatty()

    async def run(self) -> None:
        try:
            async with self._client() as client:
                while True:
                    await asyncio.sleep(TERMINAL_SECONDS if self._in_place else LOG_SECONDS)
                    line = await self._line(client)
                    # In one piece: other threads print, too.
                    print(f"\r\x1b[K{line}" if self._in_place else f"{line}\n", end="", flush=True)
        finally:
            if self._in_place:
                print()

    async def counted(self, at_least: int, seconds: float) -> tuple[int, int]:
        """The requests and errors that monitoring has counted, after `at_least` requests or after `seconds`."""
        end = time.monotonic() + seconds
        async with self._client() as client:
            while True:
                metrics = await self._get(client, "/health/metrics")
                if metrics["requests_recorded"] >= at_least or time.monotonic() > end:
                    return metrics["requests_recorded"], metrics["error_count"]
                await asyncio.sleep(0.1)

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(headers=self._headers, timeout=5, trust_env=False)

    async def _line(self, client: httpx.AsyncClient) -> str:
        try:
            health = await self._get(client, "/health")
            metrics = await self._get(client, "/health/metrics")
        except (httpx.HTTPError, ValueError) as error:
            return f"  no answer from the monitoring endpoints ({type(error).__name__}: {error})"
        return (
            f"  {health['status']:9s}  up {health['uptime_seconds']:4.0f} s"
            f"  {metrics['requests_recorded']:6d} requests  {self._rate(metrics['requests_recorded']):5.1f}/s"
            f"  p95 {metrics['p95_response_time'] * 1000:4.0f} ms  errors {metrics['error_rate']:4.1f} %"
        )

    async def _get(self, client: httpx.AsyncClient, path: str) -> dict[str, Any]:
        answer = await client.get(self._url + path)
        if answer.status_code != 503:  # the status of an unhealthy service
            answer.raise_for_status()
        body: dict[str, Any] = answer.json()
        return body

    def _rate(self, requests: int) -> float:
        now = time.monotonic()
        self._counts.append((now, requests))
        while self._counts[0][0] < now - RATE_SECONDS and len(self._counts) > 2:
            self._counts.popleft()
        since, then = self._counts[0]
        return (requests - then) / (now - since) if now > since else 0.0
