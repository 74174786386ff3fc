"""`DirectTransport`: OTLP over HTTP by the standard library.

The SDK's exporters send with `requests`, which nothing else here needs: with what it loads, it takes 5 MiB.
"""

import ssl
import threading
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import certifi

from otel_monitoring.config.requests import authority_of_requests
from otel_monitoring.forks import renewed

_ANSWER_LIMIT_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files of a TLS connection.

    Attributes:
        authority: Who may have signed the server's certificate; None: the authorities of certifi. `REQUESTS_CA_BUNDLE`
            and `CURL_CA_BUNDLE` win over it, as they do for the SDK's exporters.
        certificate: The client's own certificate, None without one.
        key: Its key; None where the certificate's file has it.
    """

    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What a request came to, as the SDK's exporters read it.

    Attributes:
        status_code: Of the response; None without one.
        reason: Of the response.
        error: Why there is no response.
    """

    status_code: int | None = None
    reason: str | None = None
    error: Exception | None = None
    _headers: Message = field(default_factory=Message)

    def headers(self) -> Message:
        """The headers of the response; look-up ignores case."""
        return self._headers


class DirectTransport:
    """Sends the requests of one exporter over one connection, which stays open.

    It has what the SDK's exporters use of their `BaseHTTPTransport`, and can be used from any thread.

    Args:
        url: The endpoint.
        files: For `https`.
    """

    def __init__(self, url: str, files: TlsFiles) -> None:
        parts = urlsplit(url)
        self._files = files if parts.scheme == "https" else None
        self._address = (parts.hostname or "", parts.port)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._login = _basic(parts.username, parts.password or "") if parts.username is not None else {}
        self._connection: HTTPConnection | None = None
        self._closed = False
        self._lock = renewed(self, "_lock", threading.Lock)

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        data: bytes | None = None,
    ) -> Result:
        """Send one request and read its response.

        Args:
            method: The HTTP method.
            url: The endpoint.
            headers: Further headers.
            timeout: Seconds that each step may take: connecting, sending, waiting for the next bytes.
            data: The body.
        """
        with self._lock:
            try:
                return self._exchange(method, {**self._login, **(headers or {})}, timeout, data)
            except Exception as error:  # noqa: BLE001 - of whatever kind: the exporter asks whether to try again
                self._disconnect()
                return Result(error=error)
            finally:
                if self._closed:
                    self._disconnect()

    def _exchange(self, method: str, headers: Mapping[str, str], timeout: float | None, data: bytes | None) -> Result:
        connection = self._connection = self._connection or self._new()
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        connection.request(method, self._target, data, headers)
        response = connection.getresponse()
        response.read(_ANSWER_LIMIT_BYTES)
        if not response.isclosed():  # there is more, which nobody reads
            self._disconnect()
        return Result(response.status, response.reason, None, response.headers)

    def _new(self) -> HTTPConnection:
        if self._files is None:
            return HTTPConnection(*self._address)
        return HTTPSConnection(*self._address, context=_tls(self._files))

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def is_connection_error(self, error: Exception | None) -> bool:
        """Whether the connection is to blame: the exporter then tries again.

        The server may have closed it since the last request, which only the next one notices.
        """
        return isinstance(error, (OSError, HTTPException))

    def close(self) -> None:
        """Close the connection, after the request in progress where there is one."""
        self._closed = True
        if self._lock.acquire(blocking=False):
            try:
                self._disconnect()
            finally:
                self._lock.release()


def _basic(user: str, password: str) -> dict[str, str]:
    login = f"{unquote(user)}:{unquote(password)}"
    return {"Authorization": f"Basic {b64encode(login.encode()).decode()}"}


def _tls(files: TlsFiles) -> ssl.SSLContext:
    chosen = authority_of_requests() or files.authority
    return _context(Path(chosen or certifi.where()), files.certificate, files.key)


@cache
def _context(authority: Path, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """Shared by the exporters: a context with the authorities of certifi takes a MiB."""
    is_folder = authority.is_dir()
    context = ssl.create_default_context(
        cafile=None if is_folder else authority, capath=authority if is_folder else None
    )
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context
