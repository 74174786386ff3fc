"""Who may ask: `TokenGuard` lets requests with the admin token through, `refuse_other_sites` no foreign changes."""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address, ip_address, ip_network

from fastapi import HTTPException, Request

from otel_monitoring.guard import logger
from otel_monitoring.redact import printable

NO_STORE = {"Cache-Control": "no-store"}
"""Headers of answers that no cache may keep."""
_GUESSES_PER_MINUTE = 20
_MAX_CLIENTS = 1000
_WARN_EVERY_SECONDS = 60.0
_IPV6_NETWORK_BITS = 64  # the network that one host usually has (RFC 6177)
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_OTHER_SITE = (
    "A page of another site, or a request with cookies that does not say where it is from, may change nothing here. "
    "Programs send 'Authorization: Bearer ...' without cookies; a proxy must pass the Host header on"
)


async def refuse_other_sites(request: Request) -> None:
    """Refuse a change that the page of another site may have a browser ask for (CSRF). A FastAPI dependency.

    A browser adds cookies, Basic credentials and its place in the network to what any page asks for. It also says which
    page asks, in headers that no page can set: `Sec-Fetch-Site` (over HTTPS and from localhost), else `Origin`.

    Raises:
        HTTPException: 403.
    """
    if request.method not in _SAFE_METHODS and not _may_change(request.headers):
        raise HTTPException(403, _OTHER_SITE, NO_STORE)


def _may_change(headers: Mapping[str, str]) -> bool:
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    scheme, has_cookies = headers.get("authorization", "").partition(" ")[0].lower(), "cookie" in headers
    if site in ("same-origin", "none") or (site is None and origin is not None and _is_host(origin, headers)):
        return True
    if site is None and origin is None and (scheme or not has_cookies):
        return True  # not a browser: each sends `Origin` with whatever is not GET or HEAD
    # No browser adds a token by itself. Beside cookies it proves nothing: they may be what the guard looks at.
    return scheme == "bearer" and not has_cookies


def _is_host(origin: str, headers: Mapping[str, str]) -> bool:
    scheme, _, place = origin.lower().partition("://")
    port = _DEFAULT_PORTS.get(scheme, "")
    return bool(place) and place.removesuffix(port) == headers.get("host", "").lower().removesuffix(port)


class GuessLimit:
    """Limits how many wrong tokens each client may send: 20 at once, then one every 3 s (a token bucket).

    Args:
        clock: Seconds of a monotonic clock.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def wait(self, client: str) -> float:
        """Seconds until the next token of this client is compared; 0: at once."""
        each = 60 / _GUESSES_PER_MINUTE
        until_full = self._full_at.get(client, 0.0) - self._clock()
        return max(0.0, until_full - (_GUESSES_PER_MINUTE - 1) * each)

    def note(self, client: str) -> None:
        """Count a wrong token of this client. At most 1,000 clients are remembered, those with the latest guesses."""
        now = self._clock()
        self._full_at[client] = max(now, self._full_at.get(client, now)) + 60 / _GUESSES_PER_MINUTE
        self._full_at.move_to_end(client)
        if len(self._full_at) > _MAX_CLIENTS:
            self._full_at.popitem(last=False)


class TokenGuard:
    """A FastAPI dependency that lets requests with the admin token through.

    Wrong tokens are counted, and logged once a minute. A client beyond its `GuessLimit` is answered 429 without
    comparing its token, so that guessing becomes slow.

    Args:
        token: The token that `Authorization: Bearer …` must hold.
        on_wrong: Called for each wrong token.
        clock: Seconds of a monotonic clock.
    """

    def __init__(self, token: str, on_wrong: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._token = token.encode()
        self._on_wrong = on_wrong
        self._clock = clock
        self._guesses = GuessLimit(clock)
        self._wrong_since_warning = 0
        self._warned_at = float("-inf")

    async def __call__(self, request: Request) -> None:
        """Let the request through.

        Raises:
            HTTPException: 401 without the token, 429 after too many wrong ones.
        """
        given = request.headers.get("authorization")
        if given is None:
            raise self._unauthorized()
        client = _client(request)
        if (wait := self._guesses.wait(client)) > 0:
            self._note_wrong(client)
            raise HTTPException(429, "Too many wrong tokens", {**NO_STORE, "Retry-After": str(int(wait) + 1)})
        if not self._is_right(given):
            self._guesses.note(client)
            self._note_wrong(client)
            raise self._unauthorized()

    def _is_right(self, given: str) -> bool:
        scheme, _, token = given.partition(" ")
        # Compared in constant time, as the bytes that were sent: Starlette decodes headers as Latin-1, byte by byte.
        return scheme.lower() == "bearer" and secrets.compare_digest(
            token.strip(" \t").encode("latin-1", "replace"), self._token
        )

    def _note_wrong(self, client: str) -> None:
        self._on_wrong()
        self._wrong_since_warning += 1
        now = self._clock()
        if now - self._warned_at >= _WARN_EVERY_SECONDS:
            logger.warning(
                "wrong admin token: %d times since the last such line, the last one from %s",
                self._wrong_since_warning,
                client,
            )
            self._warned_at, self._wrong_since_warning = now, 0

    @staticmethod
    def _unauthorized() -> HTTPException:
        return HTTPException(401, "Admin token required", {**NO_STORE, "WWW-Authenticate": "Bearer"})


def _client(request: Request) -> str:
    """The client's address; for IPv6 its /64 network, all of which one host can use."""
    host = request.client.host if request.client is not None else ""
    try:
        address = ip_address(host)
    except ValueError:
        return printable(host) or "unknown"
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(ip_network((address, _IPV6_NETWORK_BITS), strict=False))
    return host
