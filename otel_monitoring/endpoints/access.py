"""`TokenGuard`: lets requests with the admin token through, and slows down clients that guess it."""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
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
