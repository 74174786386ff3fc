"""One HTTP POST of a notification, and whether a failure is worth a retry."""

import json
import logging
import re
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

import httpx

from otel_monitoring.alerts.notify.channels.proxies import EnvironmentProxies
from otel_monitoring.errors import DeliveryError
from otel_monitoring.redact import redact
from otel_monitoring.runtime.suppression import suppress_instrumentation

TIMEOUT_SECONDS = 10.0
"""For each step: connecting, writing, waiting for a byte. The caller of a channel limits the total."""

_LONGEST_WAIT_SECONDS = 86_400.0
_REASON_LIMIT_BYTES = 256
_ANSWER_LIMIT_BYTES = 256 * 1024
_MESSAGE_REFUSED = frozenset({400, 413, 422})
"""Statuses that refuse this very message (RFC 9110 sections 15.5.1, 15.5.14, 15.5.21). Any other may be temporary: an
ingress answers 404 or 403 while its service starts, a portal redirects, a wrong address gets fixed."""

_HTTP_LOGGERS = ("httpx", "apprise", "urllib3.connectionpool")
_sending: ContextVar[bool] = ContextVar("otel_monitoring_sending", default=False)


@cache
def _tls_context() -> ssl.SSLContext:
    """The trusted authorities: `SSL_CERT_FILE` and `SSL_CERT_DIR`, else certifi's. Loaded once, which takes 50 ms."""
    return httpx.create_ssl_context()


def client(transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """A client for one notification, without redirects, with verified certificates.

    Args:
        transport: The transport; None: direct, or through the proxy that the environment names.
    """
    transport = transport or EnvironmentProxies(_tls_context())
    return httpx.AsyncClient(transport=transport, timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=False)


def direct() -> httpx.AsyncHTTPTransport:
    """A transport without a proxy, with verified certificates."""
    return httpx.AsyncHTTPTransport(verify=_tls_context())


async def post(http: httpx.AsyncClient, request: httpx.Request, receiver: str) -> None:
    """Send `request` once. Any 2xx status is success; the body is not read.

    Args:
        http: A client made by `client`.
        request: The request, built by `http`, whose timeouts it has.
        receiver: The name of the receiver in errors; it must not be the URL, which may be secret.

    Raises:
        DeliveryError: No response, or another status; retryable unless the status is 400, 413 or 422.
    """
    await _exchange(http, request, receiver, _ignored)


async def post_json(http: httpx.AsyncClient, request: httpx.Request, receiver: str) -> dict[str, Any]:
    """The same as `post`, for a receiver that answers with a JSON object, which is returned.

    Raises:
        DeliveryError: As `post`; or the body is no JSON object, or too large.
    """
    content = await _exchange(http, request, receiver, _whole)
    try:
        answer = json.loads(content)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise DeliveryError(f"{receiver} answered without JSON", retryable=True)
    return answer


async def _exchange(
    http: httpx.AsyncClient,
    request: httpx.Request,
    receiver: str,
    read: Callable[[httpx.Response], Awaitable[bytes]],
) -> bytes:
    """The body of a successful response, as `read` reads it."""
    try:
        with without_http_logs_and_spans():
            response = await http.send(request, stream=True)
            try:
                if response.is_success:
                    return await read(response)
                reason = await _reason(response)
            finally:
                await response.aclose()
    except httpx.TimeoutException as error:
        raise DeliveryError(f"{receiver}: no answer in time ({type(error).__name__})", retryable=True) from None
    except httpx.HTTPError as error:
        cause = redact(error, limit=200) or type(error).__name__
        raise DeliveryError(f"{receiver}: {cause}", retryable=True) from None
    status = response.status_code
    raise DeliveryError(
        f"{receiver} answered {status}{reason}",
        retryable=status not in _MESSAGE_REFUSED,
        retry_after=retry_after(response.headers.get("Retry-After", ""), datetime.now(timezone.utc)),
    )


async def _ignored(_: httpx.Response) -> bytes:
    return b""


async def _whole(response: httpx.Response) -> bytes:
    """The body, read up to the limit: a longer one is cut, and so no valid JSON."""
    body = b""
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > _ANSWER_LIMIT_BYTES:
            break
    return body


async def _reason(response: httpx.Response) -> str:
    """The error code in the body, as Slack sends it. Any other text is ignored: it may repeat what was sent."""
    body = b""
    async for chunk in response.aiter_raw(_REASON_LIMIT_BYTES):
        body += chunk
        if len(body) >= _REASON_LIMIT_BYTES:
            break
    return f" ({body.decode()})" if re.fullmatch(rb"[a-z_]{1,64}", body) else ""


def retry_after(value: str, now: datetime) -> float | None:
    """The delay of a `Retry-After` header (RFC 9110 section 10.2.3), which is a number of seconds or a date.

    Args:
        value: The header's value, or empty.
        now: The current time, with a timezone.

    Returns:
        Seconds, from 0 to 86,400; None where the header is missing or invalid.
    """
    if re.fullmatch(r"[0-9]{1,12}", value.strip()):
        return min(float(value), _LONGEST_WAIT_SECONDS)
    try:
        until = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=timezone.utc)
    return min(max(0.0, (until - now).total_seconds()), _LONGEST_WAIT_SECONDS)


class _NotWhileSending(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not _sending.get()


_NOT_WHILE_SENDING = _NotWhileSending()


@contextmanager
def without_http_logs_and_spans() -> Iterator[None]:
    """Suppress the log lines and spans of HTTP libraries inside: they would contain the URL, which may be secret.

    Only this context is affected, not the application's requests in other tasks and threads.
    """
    for name in _HTTP_LOGGERS:
        logging.getLogger(name).addFilter(_NOT_WHILE_SENDING)  # no-op where it is already added
    token = _sending.set(True)
    try:
        with suppress_instrumentation():
            yield
    finally:
        _sending.reset(token)
