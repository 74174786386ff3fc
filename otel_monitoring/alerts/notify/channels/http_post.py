"""One HTTP POST of a notification, and what its outcome means for trying again."""

import logging
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import cache

import httpx
from opentelemetry.instrumentation.utils import suppress_http_instrumentation

from otel_monitoring.alerts.notify.channels.proxies import EnvironmentProxies
from otel_monitoring.errors import DeliveryError
from otel_monitoring.redact import redact

TIMEOUT_SECONDS = 10.0
"""For each step: connecting, writing, waiting for a byte. Whoever calls a channel limits the whole."""

_LONGEST_WAIT_SECONDS = 86_400.0
_LARGEST_REASON_BYTES = 256
_ABOUT_THE_MESSAGE = frozenset({400, 413, 422})
"""Statuses that say this very message is wrong (RFC 9110 sections 15.5.1, 15.5.14, 15.5.21). Others may be about the
way: an ingress answers 404 or 403 while its service starts, a portal redirects, an address is put right."""

_HTTP_LOGGERS = ("httpx", "apprise", "urllib3.connectionpool")
_sending: ContextVar[bool] = ContextVar("otel_monitoring_sending", default=False)


@cache
def _tls() -> ssl.SSLContext:
    """The trusted authorities (`SSL_CERT_FILE` and `SSL_CERT_DIR`, else certifi's): read once, 50 ms."""
    return httpx.create_ssl_context()


def client(transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """A client for one notification: no redirects, certificates checked, proxies as the environment says.

    Args:
        transport: How to connect, instead of directly or through the environment's proxy.
    """
    way = transport or EnvironmentProxies(_tls())
    return httpx.AsyncClient(transport=way, timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=False)


def direct() -> httpx.AsyncHTTPTransport:
    """Connections without a proxy, certificates checked."""
    return httpx.AsyncHTTPTransport(verify=_tls())


async def post(sender: httpx.AsyncClient, request: httpx.Request, receiver: str) -> None:
    """Send `request` once; any 2xx answer is success, its body is not read.

    Args:
        sender: Made by `client`.
        request: What to send, built by `sender`, whose timeouts it carries.
        receiver: How errors call the other side; no URL.

    Raises:
        DeliveryError: No answer, or another one. Final are 400, 413 and 422 only.
    """
    try:
        with without_http_logs_and_spans():
            response = await sender.send(request, stream=True)
            try:
                if response.is_success:
                    return
                reason = await _reason(response)
            finally:
                await response.aclose()
    except httpx.TimeoutException as error:
        raise DeliveryError(f"{receiver}: no answer in time ({type(error).__name__})", retryable=True) from None
    except httpx.HTTPError as error:
        what = redact(error, limit=200) or type(error).__name__
        raise DeliveryError(f"{receiver}: {what}", retryable=True) from None
    status = response.status_code
    raise DeliveryError(
        f"{receiver} answered {status}{reason}",
        retryable=status not in _ABOUT_THE_MESSAGE,
        retry_after=retry_after(response.headers.get("Retry-After", ""), datetime.now(timezone.utc)),
    )


async def _reason(response: httpx.Response) -> str:
    """A code the receiver gives for its refusal, as Slack does. No other text: it may repeat what we sent."""
    body = b""
    async for chunk in response.aiter_raw(_LARGEST_REASON_BYTES):
        body += chunk
        if len(body) >= _LARGEST_REASON_BYTES:
            break
    return f" ({body.decode()})" if re.fullmatch(rb"[a-z_]{1,64}", body) else ""


def retry_after(value: str, now: datetime) -> float | None:
    """The seconds that a `Retry-After` header asks for (RFC 9110 section 10.2.3): a number, or a date after `now`.

    Returns:
        0 to 86,400; None where there is no header or it says nothing.
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


class _DropOurs(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not _sending.get()


_DROP_OURS = _DropOurs()


@contextmanager
def without_http_logs_and_spans() -> Iterator[None]:
    """What is sent inside leaves no log line and no span of the HTTP library: both would carry the full URL.

    The application's own requests are not touched, whichever thread or task makes them.
    """
    for name in _HTTP_LOGGERS:
        logging.getLogger(name).addFilter(_DROP_OURS)  # does nothing where it is there already
    token = _sending.set(True)
    try:
        with suppress_http_instrumentation():
            yield
    finally:
        _sending.reset(token)
