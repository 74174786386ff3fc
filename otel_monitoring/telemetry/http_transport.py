"""`HttpTransport`: how the SDK's exporters send over HTTP, with the standard library alone.

In place of the SDK's own transports, which load urllib3 or, above it, `requests`: 1 MiB and 5 MiB of an idle service.
`config/requests.py` says where `requests` is needed all the same.
"""

import ssl
import time
from collections.abc import Mapping
from email.message import Message
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from otel_monitoring.compression import compressed
from otel_monitoring.config.otlp import Compression


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

    One request at a time. Redirections are not followed.

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
        """Send a request; it fails after `timeout` seconds without an answer, or a pause of as many in its midst."""
        parts = urlsplit(url)
        began = time.monotonic()
        try:
            if self._connection is None:
                self._connection = self._to(parts.scheme, parts.hostname or "", parts.port)
            connection = self._connection
            if connection.sock is None:
                connection.timeout = timeout
                connection.connect()
            if timeout is not None:
                connection.sock.settimeout(max(timeout - (time.monotonic() - began), 0.0))
            path = parts._replace(scheme="", netloc="", fragment="").geturl()
            sent = dict(headers or {})
            if data is not None and self._compression != "none":
                sent["Content-Encoding"] = self._compression
                data = compressed(data, as_gzip=self._compression == "gzip")
            connection.request(method, path or "/", data, sent)
            response = connection.getresponse()
            return Result(response.status, response.reason, None, response.read(), response.headers)
        except Exception as error:  # noqa: BLE001 - the SDK decides what it means
            self.close()
            return Result(error=error)

    def _to(self, scheme: str, host: str, port: int | None) -> HTTPConnection:
        if scheme != "https":
            return HTTPConnection(host, port)
        context = ssl.create_default_context(cafile=self._authority)
        context.set_alpn_protocols(["http/1.1"])
        if self._certificate is not None:
            context.load_cert_chain(self._certificate, self._key)
        return HTTPSConnection(host, port, context=context)

    def is_connection_error(self, error: Exception | None) -> bool:
        """Whether it may go better with another connection: the SDK then tries again."""
        return isinstance(error, OSError | HTTPException)

    def close(self) -> None:
        """Close the connection; a further request makes another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
