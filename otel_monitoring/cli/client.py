"""`Service`: the monitoring endpoints of a running service, asked over HTTP."""

import json
import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urljoin

import httpx

from otel_monitoring.cli.address import Address
from otel_monitoring.redact import redact

_MAX_BYTES: Final = 32 * 1024 * 1024
_MAX_REDIRECTS: Final = 5
_STATUSES: Final = ("healthy", "degraded", "unhealthy", "unknown", "alive", "ready", "not ready")


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
        date: The header `Date`; None without one.
    """

    status: int
    body: Any
    seconds: float
    date: str | None = None


class Service:
    """A service by its URL. Safe to use from one thread at a time.

    The first answer decides below which of the possible URLs the endpoints are.

    Args:
        url: Where it is: `http://host:8000`, or what comes before or with the prefix of its endpoints, or an endpoint.
            A login in it is sent in place of the token: both are the header `Authorization`.
        token: The admin token, if there is one.
        prefix: The prefix that the service was given, where that is known.
        timeout: Seconds an answer may take.

    Attributes:
        given: The URL below which the endpoints were looked for first.
        url: Where the endpoints are, prefix included.
        has_token: Whether there is a token for the private endpoints.

    Raises:
        ValueError: `url` is no HTTP URL.
    """

    def __init__(self, url: str, *, token: str | None = None, prefix: str | None = None, timeout: float = 5.0) -> None:
        address = Address.of(url, prefix=prefix)
        self.given = self.url = address.bases[0]
        self.has_token = bool(token) and address.login is None
        self._others = address.bases[1:]
        self._timeout = timeout
        self._client = httpx.Client(
            auth=address.login,
            headers={"Authorization": f"Bearer {token}"} if self.has_token else {},
            timeout=timeout,
            # A proxy from the environment would be asked for its own loopback.
            mounts={f"all://{address.host}": None} if address.local else None,
        )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    @property
    def moved(self) -> str | None:
        """That the endpoints are elsewhere than was said; None where they are there, or not known yet."""
        if self.url == self.given:
            return None
        return f"no monitoring endpoints at {self.given}: they are at {self.url}"

    def nothing_found(self, path: str) -> str:
        """That no endpoint answers, and where else it was looked for."""
        tried = "".join(f" or at {base}{path}" for base in self._others)
        return f"no monitoring endpoint is there{tried}: is the prefix of the service another one?"

    @property
    def _bases(self) -> tuple[str, ...]:
        """Where the endpoints may be: more than one URL until the first answer."""
        return (self.url, *self._others)

    def get(self, path: str) -> Answer | None:
        """What the endpoint at `path` answers; None: there is no such endpoint, or the application has its own there.

        Raises:
            UnreachableError: No answer in time, or not the JSON of our endpoints.
            DeniedError: It wants a token that we do not have.
        """
        if not self._others:
            answer = self._ask("GET", self.url, path)
            theirs = answer is not None and path.startswith("/health") and not _is_ours(answer.body)
            return None if theirs else answer
        problems: dict[str, UnreachableError | DeniedError] = {}
        for base in self._bases:
            try:
                answer = self._ask("GET", base, path)
            except _NobodyError:
                raise
            except (UnreachableError, DeniedError) as error:
                problems[base] = error
                continue
            if answer is not None and _is_ours(answer.body):
                self.url, self._others = base, ()
                return answer
        for base, problem in problems.items():
            # What is private is there; it may be somebody else's.
            self.url, self._others = base, tuple(other for other in self._bases if other != base)
            raise problem
        return None

    def post(self, path: str, body: Any) -> Answer | None:
        """As `get`, with a JSON body sent."""
        return self._ask("POST", self.url, path, body)

    def delete(self, path: str) -> Answer | None:
        """As `get`, for DELETE."""
        return self._ask("DELETE", self.url, path)

    def without_token(self) -> "Service":
        """The same service as a stranger sees it."""
        stranger = Service(self.url, timeout=self._timeout)
        stranger.url, stranger._others = self.url, self._others
        return stranger

    def _ask(self, method: str, base: str, path: str, body: Any = None) -> Answer | None:
        started = time.monotonic()
        try:
            response, content = self._exchange(method, base + path, body, started)
        except httpx.HTTPError as error:
            raise _NobodyError(_explained(error, self._timeout)) from error
        seconds, status = time.monotonic() - started, response.status_code
        if status in (401, 403, 429):  # too many wrong tokens are answered so
            raise DeniedError(_detail(content) or "the admin token is missing or wrong")
        if status in (404, 405):
            return None
        date = response.headers.get("date")
        if status == 204:
            return Answer(status, None, seconds, date)
        try:
            return Answer(status, json.loads(content), seconds, date)
        except ValueError:
            raise UnreachableError(f"{path} answered {status} without JSON: this is no monitoring endpoint") from None

    def _exchange(self, method: str, url: str, body: Any, started: float) -> tuple[httpx.Response, bytes]:
        for _ in range(_MAX_REDIRECTS):
            content = bytearray()
            with self._client.stream(method, url, json=body) as response:
                for chunk in response.iter_bytes():
                    content += chunk
                    if len(content) > _MAX_BYTES:
                        raise UnreachableError(f"{url} answered more than {_MAX_BYTES} bytes")
                    if time.monotonic() - started > self._timeout:
                        raise _NobodyError(f"{url} took longer than {self._timeout:g} s")
            if not response.has_redirect_location:
                return response, bytes(content)
            url = _redirected(url, response.headers["location"])
        raise UnreachableError(f"{url} redirects again and again")


class _NobodyError(UnreachableError):
    """Nobody answered at all: no other path would help."""


def _is_ours(body: Any) -> bool:
    return isinstance(body, dict) and (body.get("status") in _STATUSES or "requests_recorded" in body)


def _redirected(url: str, location: str) -> str:
    """Where a redirect leads, which gets the token: the same server, by the same way or by TLS instead."""
    there = urljoin(url, location)
    before, after = httpx.URL(url), httpx.URL(there)
    upgraded = (before.scheme, before.port, after.scheme, after.port) == ("http", None, "https", None)
    if before.host != after.host or not (upgraded or (before.scheme, before.port) == (after.scheme, after.port)):
        shown = f"{after.scheme}://{after.netloc.decode().rpartition('@')[2]}{after.path}"
        raise UnreachableError(f"it redirects to {shown}: if that is the service, ask there")
    return there


_HINTS: Final = (
    ("refused", "nothing listens there"),
    ("Name or service not known", "is the host's name right?"),
    ("Temporary failure in name resolution", "is the host's name right?"),
    ("CERTIFICATE_VERIFY_FAILED", "SSL_CERT_FILE names the file of an authority of your own"),
    ("SSL", "is it http://?"),
    ("disconnected without sending", "is it https://?"),
)


def _explained(error: httpx.HTTPError, timeout: float) -> str:
    if isinstance(error, httpx.TimeoutException):
        return f"timed out: no answer within {timeout:g} s"
    text = redact(str(error)) or type(error).__name__
    hint = next((hint for mark, hint in _HINTS if mark in text), None)
    return f"{text}: {hint}" if hint else text


def _detail(content: bytes) -> str | None:
    """FastAPI's explanation of an error, which in ours says what to set."""
    try:
        detail = json.loads(content)["detail"]
    except (ValueError, KeyError, TypeError):
        return None
    return detail[:500] if isinstance(detail, str) else None
