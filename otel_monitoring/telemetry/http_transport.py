"""`HttpTransport`: how the SDK's exporters send over HTTP, with the standard library alone.

In place of the SDK's own transports, which load urllib3 or, above it, `requests`: 1 MiB and 5 MiB of an idle service.
`config/requests.py` says where `requests` is needed all the same.
"""

import io
import selectors
import socket
import ssl
import time
from collections.abc import Mapping
from email.message import Message
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, quote, urlsplit

from otel_monitoring.compression import compressed
from otel_monitoring.config.otlp import Compression
from otel_monitoring.telemetry.partial_success import note_rejected

_OK: Final = 200
_LARGEST_ANSWER: Final = 1 << 20
"""Bytes of an answer, its headers included; those of a Collector have some hundreds."""
_LARGEST_BODY: Final = 1 << 16
_Selector: Final = getattr(selectors, "PollSelector", selectors.DefaultSelector)
"""Needs no file descriptor: a process that has none left still exports."""
_PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F)))


class Result(NamedTuple):
    """What has become of a request: an answer, or an error before it was complete."""

    status_code: int | None = None
    reason: str | None = None
    error: Exception | None = None
    body: bytes = b""
    fields: Message = Message()

    def content(self) -> bytes:
        """The answer's body."""
        return self.body

    def headers(self) -> Message:
        """The answer's headers, whatever the case of their names."""
        return self.fields


class HttpTransport:
    """Sends to one server by one connection, which it keeps; it has the methods of the SDK's `BaseHTTPTransport`.

    One request at a time. Redirections are not followed: they are errors.

    Args:
        authority: The file of those who may have signed the server's certificate.
        certificate: The file of the client's own certificate.
        key: The file of its key; None: it is in the file of the certificate.
        compression: Of what is sent.
    """

    def __init__(
        self,
        authority: Path | str,
        certificate: Path | None = None,
        key: Path | None = None,
        compression: Compression = "none",
    ) -> None:
        self._authority = authority
        self._certificate = certificate
        self._key = key
        self._compression = compression
        self._connection: HTTPConnection | None = None

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        data: bytes | None = None,
    ) -> Result:
        """Send a request; it fails `timeout` seconds after its start if the headers of an answer have not come by then.

        What has not come of the answer's body by then, or is beyond 64 KiB of it, is left out: the status counts.
        """
        until = None if timeout is None else time.monotonic() + timeout
        try:
            connection = self._connected(urlsplit(url), timeout)
            sent = dict(headers or {})
            if data is not None and self._compression != "none":
                sent["Content-Encoding"] = self._compression
                data = compressed(data, as_gzip=self._compression == "gzip")
            _give_time(connection.sock, until)
            connection.request(method, _target(url), data, sent)
            _give_time(connection.sock, until)
            response = connection.getresponse()
            body = self._body(response)
            check_status(response.status, response.reason)
            if response.status == _OK and body and "protobuf" in response.headers.get("Content-Type", ""):
                note_rejected(body)
            return Result(response.status, response.reason, None, body, response.headers)
        except Exception as error:  # noqa: BLE001 - the SDK decides what it means
            self.close()
            return Result(error=error)

    def _connected(self, parts: SplitResult, timeout: float | None) -> HTTPConnection:
        """The connection that is kept, or another one where the server has left it."""
        connection = self._connection
        if connection is None or (connection.sock is not None and not _is_silent(connection.sock)):
            self.close()
            connection = self._connection = self._to(parts.scheme, parts.hostname or "", parts.port)
        if connection.sock is None:
            # For each address of the host: where the first one does not answer, there is time for the second.
            connection.timeout = None if timeout is None else timeout / 2
            connection.connect()
        return connection

    def _to(self, scheme: str, host: str, port: int | None) -> HTTPConnection:
        connection: HTTPConnection
        if scheme == "https":
            context = ssl.create_default_context(cafile=self._authority)
            context.set_alpn_protocols(["http/1.1"])
            if self._certificate is not None:
                context.load_cert_chain(self._certificate, self._key)
            connection = HTTPSConnection(host, port or HTTPSConnection.default_port, context=context)
        else:
            # Without a port, the standard library takes the last part of an IPv6 address for one.
            connection = HTTPConnection(host, port or HTTPConnection.default_port)
        connection.response_class = _Response
        return connection

    def _body(self, response: HTTPResponse) -> bytes:
        """The answer's body, up to 64 KiB; the connection is kept if that was all."""
        try:
            body = response.read(_LARGEST_BODY)
        except (OSError, HTTPException):
            body = b""
        if not response.isclosed():
            self.close()
            response.close()
        return body

    def is_connection_error(self, error: Exception | None) -> bool:
        """Whether it may go better with another connection: the SDK then tries again."""
        return isinstance(error, OSError | HTTPException)

    def close(self) -> None:
        """Close the connection; a further request makes another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class _Response(HTTPResponse):
    """An answer that has come, headers and body, when the time limit of the socket has passed, or is an error."""

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_Limited(sock, self.fp.detach()))


class _Limited(io.RawIOBase):
    """What is received, up to 1 MiB and up to the moment at which the socket's time limit has passed."""

    def __init__(self, sock: socket.socket, received: io.RawIOBase) -> None:
        seconds = sock.gettimeout()
        self._until = None if seconds is None else time.monotonic() + seconds
        self._sock = sock
        self._received = received
        self._left = _LARGEST_ANSWER

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        _give_time(self._sock, self._until)
        if self._left <= 0:
            raise HTTPException(f"the answer has more than {_LARGEST_ANSWER} bytes")
        count: int | None = self._received.readinto(buffer)
        self._left -= count or 0
        return count

    def close(self) -> None:
        self._received.close()
        super().close()


def check_status(status: int, reason: str | None) -> None:
    """Check that `status` says whether the server has taken the data.

    Raises:
        HTTPException: It is not the end of an answer.
        ValueError: It is a redirection, which the SDK takes for a success.
    """
    if status < 200:
        raise HTTPException(f"{status} is not the end of an answer")
    if 300 <= status < 400:
        raise ValueError(f"the server redirects ({status} {reason})")


def _give_time(sock: socket.socket, until: float | None) -> None:
    """Have operations of `sock` end by `until`, in seconds of the monotonic clock.

    Raises:
        TimeoutError: That has passed.
    """
    if until is not None:
        seconds = until - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("timed out")
        sock.settimeout(seconds)


def _is_silent(sock: socket.socket) -> bool:
    """Whether nothing has come between two requests: the end of the connection, or why the server ends it."""
    with _Selector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return not selector.select(0)


def _target(url: str) -> str:
    """Path and query of `url` as they are sent."""
    path = urlsplit(url)._replace(scheme="", netloc="", fragment="").geturl()
    return quote(path or "/", safe=_PRINTABLE)
