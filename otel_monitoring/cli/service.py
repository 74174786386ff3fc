"""`Service`: the monitoring endpoints of a running service, asked over HTTP."""

import json
import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from otel_monitoring.redact import redact

_MAX_BYTES: Final = 32 * 1024 * 1024
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class UnreachableError(Exception):
    """Nobody answered, or somebody who does not have our endpoints."""


class DeniedError(Exception):
    """The endpoint is private and the token is missing or wrong."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint answered.

    Attributes:
        status: The HTTP status.
        body: The decoded JSON.
        seconds: How long it took.
    """

    status: int
    body: Any
    seconds: float


class Service:
    """A service by its URL. Safe to use from one thread at a time.

    Args:
        url: Where it is: `http://host:8000` (the endpoints are under `/api`), or with the prefix it was given,
            `http://host:8000/internal`, or that of `/health` itself.
        token: The admin token, if there is one.
        timeout: Seconds an answer may take.

    Attributes:
        url: Where the endpoints are, prefix included.
        has_token: Whether private endpoints can be asked.

    Raises:
        ValueError: `url` is no HTTP URL.
    """

    def __init__(self, url: str, *, token: str | None = None, timeout: float = 5.0) -> None:
        self.url = _base(url)
        self.has_token = bool(token)
        self._timeout = timeout
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # A proxy from the environment would be asked for its own loopback.
        proxied = urlsplit(self.url).hostname not in _LOOPBACK
        self._client = httpx.Client(headers=headers, timeout=timeout, trust_env=proxied)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def get(self, path: str) -> Answer | None:
        """What the endpoint at `path` answers; None: there is no such endpoint.

        Raises:
            UnreachableError: No answer in time, or not the JSON of our endpoints.
            DeniedError: It wants a token that we do not have.
        """
        return self._ask("GET", path)

    def post(self, path: str, body: Any) -> Answer | None:
        """As `get`, with a JSON body sent."""
        return self._ask("POST", path, body)

    def delete(self, path: str) -> Answer | None:
        """As `get`, for DELETE."""
        return self._ask("DELETE", path)

    def _ask(self, method: str, path: str, body: Any = None) -> Answer | None:
        started = time.monotonic()
        try:
            status, content = self._exchange(method, path, body, started)
        except httpx.HTTPError as error:
            raise UnreachableError(redact(str(error)) or type(error).__name__) from error
        seconds = time.monotonic() - started
        if status in (401, 403):
            raise DeniedError(_detail(content) or "the admin token is missing or wrong")
        if status in (404, 405):
            return None
        if status == 204:
            return Answer(status, None, seconds)
        try:
            return Answer(status, json.loads(content), seconds)
        except ValueError:
            raise UnreachableError(f"{path} answered {status} without JSON: this is no monitoring endpoint") from None

    def _exchange(self, method: str, path: str, body: Any, started: float) -> tuple[int, bytes]:
        content = bytearray()
        with self._client.stream(method, self.url + path, json=body) as response:
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) > _MAX_BYTES:
                    raise UnreachableError(f"{path} answered more than {_MAX_BYTES} bytes")
                if time.monotonic() - started > self._timeout:
                    raise UnreachableError(f"{path} took longer than {self._timeout:g} s")
            return response.status_code, bytes(content)


def _base(url: str) -> str:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError(f"{url!r} has a port that is no number from 0 to 65535") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is no URL like http://localhost:8000")
    path = parts.path.rstrip("/").removesuffix("/health") if parts.path.strip("/") else "/api"
    return parts._replace(path=path).geturl()


def _detail(content: bytes) -> str | None:
    """FastAPI's explanation of an error, which in ours says what to set."""
    try:
        detail = json.loads(content)["detail"]
    except (ValueError, KeyError, TypeError):
        return None
    return detail if isinstance(detail, str) else None
