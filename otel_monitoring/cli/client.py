"""`ServiceClient`: an HTTP client for the monitoring endpoints of a running service."""

import json
import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from otel_monitoring.cli.address import ServiceAddress
from otel_monitoring.cli.http_request import NoResponseError, Requester, Response, SlowError, TooLargeError
from otel_monitoring.redact import redact

_MAX_REDIRECTS: Final = 5
_STATUSES: Final = ("healthy", "degraded", "unhealthy", "unknown", "alive", "ready", "not ready")


class UnreachableError(Exception):
    """There is no answer, or one that is not from our endpoints."""


class DeniedError(Exception):
    """The endpoint is private, and the admin token is missing or wrong."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An endpoint's answer.

    Attributes:
        status: The HTTP status.
        body: The decoded JSON.
        seconds: The duration of the request.
        date: The header `Date`, None without it.
    """

    status: int
    body: Any
    seconds: float
    date: str | None = None


class ServiceClient:
    """A client for one service. Use it from one thread at a time.

    The endpoints may be below several URLs; the first answer decides which one it is.

    Args:
        url: The service's URL, with or without the prefix or an endpoint, as for `ServiceAddress.of`. A login in it is
            sent in place of the token, because both use the header `Authorization`.
        token: The admin token, or None.
        prefix: The service's prefix, None where it is not known.
        timeout: Seconds that an answer may take.

    Attributes:
        given: The URL at which the endpoints were expected.
        url: The URL of the endpoints, prefix included.
        has_token: Whether requests have an admin token.

    Raises:
        ValueError: `url` is no HTTP URL.
    """

    def __init__(self, url: str, *, token: str | None = None, prefix: str | None = None, timeout: float = 5.0) -> None:
        address = ServiceAddress.of(url, prefix=prefix)
        self.given = self.url = address.bases[0]
        self.has_token = bool(token) and address.login is None
        self._others = address.bases[1:]
        self._timeout = timeout
        self._requests = Requester(
            {"Authorization": f"Bearer {token}"} if self.has_token else {},
            login=address.login,
            timeout=timeout,
            # A loopback address must not go to the environment's proxy, which would look on its own machine.
            direct=address.local,
        )

    @property
    def moved(self) -> str | None:
        """A line that says where the endpoints are, None where they are at the given URL or not found yet."""
        if self.url == self.given:
            return None
        return f"no monitoring endpoints at {self.given}: they are at {self.url}"

    def nothing_found(self, path: str) -> str:
        """The error text for an endpoint that was found nowhere, with the other URLs that were tried."""
        tried = "".join(f" or at {base}{path}" for base in self._others)
        return f"no monitoring endpoint is there{tried}: is the prefix of the service another one?"

    @property
    def _bases(self) -> tuple[str, ...]:
        """The URLs at which the endpoints may be: one after the first answer."""
        return (self.url, *self._others)

    def get(self, path: str) -> Answer | None:
        """The answer of the endpoint at `path`, such as `/health`.

        Returns:
            None where there is no such endpoint, or the application has one of its own there.

        Raises:
            UnreachableError: There is no answer in time, or one that is no JSON.
            DeniedError: The admin token is missing or wrong.
        """
        if not self._others:
            answer = self._ask("GET", self.url, path)
            is_foreign = answer is not None and path.startswith("/health") and not _is_ours(answer.body)
            return None if is_foreign else answer
        problems: dict[str, UnreachableError | DeniedError] = {}
        for base in self._bases:
            try:
                answer = self._ask("GET", base, path)
            except _NoAnswerError:
                raise
            except (UnreachableError, DeniedError) as error:
                problems[base] = error
                continue
            if answer is not None and _is_ours(answer.body):
                self.url, self._others = base, ()
                return answer
        for base, problem in problems.items():
            # A URL that asks for a token has endpoints, maybe another program's: it is the best guess.
            self.url, self._others = base, tuple(other for other in self._bases if other != base)
            raise problem
        return None

    def post(self, path: str, body: Any) -> Answer | None:
        """As `get`, for POST with a JSON body."""
        return self._ask("POST", self.url, path, body)

    def delete(self, path: str) -> Answer | None:
        """As `get`, for DELETE."""
        return self._ask("DELETE", self.url, path)

    def without_token(self) -> "ServiceClient":
        """A client for the same service without a token."""
        other = ServiceClient(self.url, timeout=self._timeout)
        other.url, other._others = self.url, self._others
        return other

    def _ask(self, method: str, base: str, path: str, body: Any = None) -> Answer | None:
        started = time.monotonic()
        try:
            response = self._exchange(method, base + path, body)
        except NoResponseError as error:
            raise _NoAnswerError(_explained(error, self._timeout)) from error
        seconds, status, content = time.monotonic() - started, response.status, response.content
        if status in (401, 403, 429):  # 429 after too many wrong tokens
            why = _detail(content) or "the admin token is missing or wrong"
            if response.headers.get("www-authenticate", "").startswith("Bearer"):
                why = "the admin token is wrong" if self.has_token else f"{why}: set OTEL_MONITORING_ADMIN_TOKEN"
            raise DeniedError(why)
        if status in (404, 405):
            return None
        date = response.headers.get("date")
        if status == 204:
            return Answer(status, None, seconds, date)
        try:
            return Answer(status, json.loads(content), seconds, date)
        except ValueError:
            raise UnreachableError(f"{path} answered {status} without JSON: this is no monitoring endpoint") from None

    def _exchange(self, method: str, url: str, body: Any) -> Response:
        for _ in range(_MAX_REDIRECTS):
            try:
                response = self._requests.send(method, url, body)
            except TooLargeError:
                raise UnreachableError(f"{url} answered more than any monitoring endpoint does") from None
            if response.location is None:
                return response
            url = _redirected(url, response.location)
        raise UnreachableError(f"{url} redirects again and again")


class _NoAnswerError(UnreachableError):
    """The server does not answer, so another path on it would not help."""


def _is_ours(body: Any) -> bool:
    return isinstance(body, dict) and (body.get("status") in _STATUSES or "requests_recorded" in body)


def _redirected(url: str, location: str) -> str:
    """The target of a redirect. It gets the token, so it must be the same server, by the same scheme or by TLS.

    Raises:
        UnreachableError: The target is another server.
    """
    there = urljoin(url, location)
    try:
        before, after = urlsplit(url), urlsplit(there)
        upgraded = (before.scheme, before.port, after.scheme, after.port) == ("http", None, "https", None)
        same = upgraded or (before.scheme, before.port) == (after.scheme, after.port)
    except ValueError:
        raise UnreachableError("it redirects to what is no URL") from None
    if before.hostname != after.hostname or not same:
        shown = f"{after.scheme}://{after.netloc.rpartition('@')[2]}{after.path}"
        raise UnreachableError(f"it redirects to {shown}: if that is the service, ask there")
    return there


_HINTS: Final = (
    ("refused", "nothing listens there"),
    ("Name or service not known", "is the host's name right?"),
    ("Temporary failure in name resolution", "is the host's name right?"),
    ("CERTIFICATE_VERIFY_FAILED", "SSL_CERT_FILE names the file of an authority of your own"),
    ("SSL", "is it http://?"),
    ("closed connection without response", "is it https://?"),
)


def _explained(error: NoResponseError, timeout: float) -> str:
    if isinstance(error, SlowError):
        return f"timed out: no answer within {timeout:g} s"
    text = redact(str(error))
    hint = next((hint for mark, hint in _HINTS if mark in text), None)
    return f"{text}: {hint}" if hint else text


def _detail(content: bytes) -> str | None:
    """FastAPI's `detail` of an error. That of our endpoints says which setting is missing."""
    try:
        detail = json.loads(content)["detail"]
    except (ValueError, KeyError, TypeError):
        return None
    return detail[:500] if isinstance(detail, str) else None
