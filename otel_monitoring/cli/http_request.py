"""`Requester`: HTTP by the standard library, which loads in a fifth of the time that httpx takes: probes are short."""

import json
import ssl
import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException, HTTPResponse
from typing import Any, Final
from urllib import request as urllib_request
from urllib.error import URLError
from urllib.parse import quote, urlsplit, urlunsplit

import certifi

_CHUNK: Final = 65_536
_MAX_BYTES: Final = 32 * 1024 * 1024
_PATH_CHARACTERS: Final = "/%:@!$&'()*+,;=~"


class NoResponseError(Exception):
    """Nothing has answered, or not in time; the message says why, as the system does."""


class SlowError(NoResponseError):
    """The response was not there in time."""


class TooLargeError(Exception):
    """The response has more bytes than any of ours."""


@dataclass(frozen=True, slots=True)
class Response:
    """A response of any status.

    Attributes:
        status: The HTTP status.
        headers: The headers; look-up ignores case.
        content: The body.
    """

    status: int
    headers: Message
    content: bytes

    @property
    def location(self) -> str | None:
        """Where it redirects to, None where it does not."""
        return self.headers["location"] if self.status in (301, 302, 303, 307, 308) else None


class Requester:
    """Makes requests and follows no redirects.

    Args:
        headers: Sent with every request.
        login: User and password, sent as basic authentication.
        timeout: Seconds that a response may take.
        direct: Whether to ignore the environment's proxies (`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`).
    """

    def __init__(
        self, headers: Mapping[str, str], *, login: tuple[str, str] | None, timeout: float, direct: bool
    ) -> None:
        self._headers = dict(headers)
        if login is not None:
            self._headers["Authorization"] = f"Basic {b64encode(':'.join(login).encode()).decode()}"
        self._timeout = timeout
        self._direct = direct
        self._openers: dict[str, urllib_request.OpenerDirector] = {}

    def send(self, method: str, url: str, body: Any = None) -> Response:
        """The response to one request.

        Args:
            method: The HTTP method.
            url: Its URL.
            body: Sent as JSON; None: there is no body.

        Raises:
            NoResponseError: There is none.
            SlowError: There is none in time.
            TooLargeError: It is larger than 32 MiB.
        """
        deadline = time.monotonic() + self._timeout
        content = json.dumps(body).encode() if body is not None else None
        headers = {**self._headers, **({"Content-Type": "application/json"} if content is not None else {})}
        try:
            asked = urllib_request.Request(_quoted(url), content, headers, method=method)  # noqa: S310 - Address has checked the scheme
            with self._open(asked) as response:
                return Response(response.status, response.headers, self._read(response, deadline))
        except TimeoutError as error:
            raise SlowError(str(error)) from error
        except URLError as error:
            kind = SlowError if isinstance(error.reason, TimeoutError) else NoResponseError
            raise kind(str(error.reason)) from error
        except (OSError, HTTPException, ValueError) as error:  # ValueError: what cannot be sent, such as a token
            raise NoResponseError(str(error) or type(error).__name__) from error

    def _open(self, asked: urllib_request.Request) -> HTTPResponse:
        opener = self._openers.get(asked.type)
        if opener is None:
            opener = self._openers[asked.type] = urllib_request.OpenerDirector()
            opener.add_handler(urllib_request.ProxyHandler({} if self._direct else _proxies()))
            opener.add_handler(
                urllib_request.HTTPSHandler(context=_authorities())
                if asked.type == "https"
                else urllib_request.HTTPHandler()
            )
        response: HTTPResponse = opener.open(asked, timeout=self._timeout)
        return response

    def _read(self, response: HTTPResponse, deadline: float) -> bytes:
        content = bytearray()
        while chunk := response.read1(_CHUNK):
            content += chunk
            if len(content) > _MAX_BYTES:
                raise TooLargeError
            if time.monotonic() > deadline:
                raise SlowError("timed out")
        return bytes(content)


def _quoted(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=quote(parts.path, _PATH_CHARACTERS)))


def _proxies() -> dict[str, str]:
    found = urllib_request.getproxies()
    everything = found.pop("all", None)
    return {**({"http": everything, "https": everything} if everything else {}), **found}


def _authorities() -> ssl.SSLContext:
    """Trusts the authorities of certifi, or those that `SSL_CERT_FILE` or `SSL_CERT_DIR` names."""
    paths = ssl.get_default_verify_paths()
    named = paths.cafile not in (None, paths.openssl_cafile) or paths.capath not in (None, paths.openssl_capath)
    return ssl.create_default_context(cafile=None if named else certifi.where())
