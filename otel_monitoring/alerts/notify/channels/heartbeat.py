"""`Heartbeat`: tells an outside watcher that rules are evaluated; it alerts if nothing comes ("dead man's switch")."""

import asyncio
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from pydantic import SecretStr

from otel_monitoring.alerts.model import Notification
from otel_monitoring.alerts.notify.channels.http_post import client, post
from otel_monitoring.errors import DeliveryError
from otel_monitoring.guard import fail_open, logger
from otel_monitoring.redact import redact
from otel_monitoring.redact.json_text import json_text
from otel_monitoring.runtime.suppression import suppress_instrumentation
from otel_monitoring.runtime.threads import in_thread
from otel_monitoring.timestamps import rfc3339

NAME = "heartbeat"
"""Its name among the channels of the diagnostics."""

_beating = fail_open("the heartbeat")


class Heartbeat:
    """Requests a URL at each interval while `beat` is called. Used from one event loop at a time.

    Args:
        url: The URL, which may contain a secret. It is requested directly, or by the proxy that the environment names.
        method: `GET`; or `POST` with JSON that says which service it is.
        interval: Seconds between two requests.
        clock: Returns Unix time in seconds.
        elapsed: Returns monotonic time in seconds.
        timeout: Seconds that a request may take.
    """

    def __init__(
        self,
        url: SecretStr,
        *,
        method: Literal["GET", "POST"] = "GET",
        interval: float = 60.0,
        clock: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = time.monotonic,
        timeout: float = 10.0,
    ) -> None:
        self._url = url
        self._method = method
        self._interval = interval
        self._clock = clock
        self._elapsed = elapsed
        self._timeout = timeout
        self._sent_at = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        self._delivered_at: float | None = None
        self._last_error: tuple[str, float] | None = None

    def beat(self, save: Callable[[str, str], object], about: Notification, evaluated_at: float) -> None:
        """Request the URL if it is due; returns at once.

        Args:
            save: Gets its name and its condition, for the diagnostics of every worker; called in a thread.
            about: The service.
            evaluated_at: When the rules were last evaluated, in Unix seconds.
        """
        if not self.due or not self._is_idle():
            return
        self._sent_at = self._elapsed()
        self._task = asyncio.ensure_future(self._beat(save, about, evaluated_at))

    @property
    def due(self) -> bool:
        """Whether the interval since the last request is over."""
        return not 0 <= self._elapsed() - self._sent_at < self._interval

    def stop(self) -> None:
        """End a request that is under way."""
        if self._task is not None and not self._is_idle():
            self._task.cancel()

    def condition(self) -> dict[str, Any]:
        """Its state, in the form of `ChannelQueue.condition`."""
        answer: dict[str, Any] = {"state": "retrying" if self._failures else "ok", "failures": self._failures}
        if self._delivered_at is not None:
            answer["last_delivered"] = rfc3339(self._delivered_at)
        if self._last_error is not None:
            answer["last_error"], answer["last_error_time"] = self._last_error[0], rfc3339(self._last_error[1])
        return answer

    def _is_idle(self) -> bool:
        """Whether no request is under way; one of an earlier event loop, or of the parent, never ends."""
        task = self._task
        return task is None or task.done() or task.get_loop() is not asyncio.get_running_loop()

    async def _beat(self, save: Callable[[str, str], object], about: Notification, evaluated_at: float) -> None:
        with _beating:
            try:
                with suppress_instrumentation():
                    await asyncio.wait_for(self._request(about, evaluated_at), self._timeout)
            except (DeliveryError, asyncio.TimeoutError) as error:
                why = redact(str(error)) or f"no answer within {self._timeout:g} s"
                if not self._failures:
                    logger.warning("the heartbeat fails, and is sent again with the next interval: %s", why)
                self._failures, self._last_error = self._failures + 1, (why, self._clock())
            else:
                self._failures, self._delivered_at = 0, self._clock()
            await in_thread(partial(save, NAME, json.dumps(self.condition())), name="otel-monitoring-heartbeat")

    async def _request(self, about: Notification, evaluated_at: float) -> None:
        async with client() as http:
            request = http.build_request(
                self._method, self._url.get_secret_value(), **self._content(about, evaluated_at)
            )
            await post(http, request, "The heartbeat")

    def _content(self, about: Notification, evaluated_at: float) -> dict[str, Any]:
        headers = {"User-Agent": "otel-monitoring"}
        if self._method == "GET":
            return {"headers": headers}
        found = {
            "service": about.service,
            "environment": about.environment,
            "version": about.version,
            "host": about.host,
            "evaluated_at": rfc3339(evaluated_at),
        }
        return {"headers": {**headers, "Content-Type": "application/json"}, "content": json_text(found).encode()}
