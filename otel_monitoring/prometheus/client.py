"""`Server` and `Connection`: the HTTP APIs of Prometheus (Mimir, Thanos, VictoriaMetrics) and of Alertmanager."""

import asyncio
import json
import math
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import httpx
from opentelemetry.util.re import parse_env_headers
from pydantic import SecretStr

from otel_monitoring.alerts.notify.channels.http_post import client, without_http_logs_and_spans
from otel_monitoring.alerts.notify.channels.proxies import EnvironmentProxies
from otel_monitoring.config.prometheus import PrometheusSettings
from otel_monitoring.errors import ConfigurationError, PrometheusError
from otel_monitoring.redact import redact
from otel_monitoring.runtime.give_way import give_way

T = TypeVar("T")

_LARGEST: Final = 64 * 1024 * 1024
_LONG: Final = 100_000
_SAMPLES: Final = '"result":['
_REASON_LENGTH = 200
_AT_ONCE = 8
"""The most questions of one connection that are asked at once; a server answers twenty, Prometheus' default."""
_WHOLE: Final = {"partial_response": "false", "deny_partial_response": "1"}
"""Thanos and VictoriaMetrics' cluster say what a part of their stores has, unless an error is asked for instead."""


class Server:
    """A server and how to reach it.

    Args:
        name: Its name in errors.
        url: Its URL, without the path of an API; `user:password@` is basic authentication.
        headers: Sent with every question.
        tls: Whom to trust, and the certificate to show; None: as the alert channels.
        timeout: Seconds that the questions of one connection may take together.
    """

    def __init__(
        self, name: str, url: str, *, headers: Mapping[str, str], tls: ssl.SSLContext | None, timeout: float
    ) -> None:
        self.name = name
        self.url = httpx.URL(url)
        self.headers = dict(headers)
        self._tls = tls
        self._timeout = timeout

    @classmethod
    def of_prometheus(cls, settings: PrometheusSettings) -> "Server":
        """The client of `OTEL_MONITORING_PROMETHEUS_URL`.

        Raises:
            ConfigurationError: The URL's host is none, or a certificate cannot be read.
        """
        url, given = settings.prometheus_url, settings.prometheus_headers
        check_host(url, "OTEL_MONITORING_PROMETHEUS_URL")
        headers = parse_env_headers(given.get_secret_value(), liberal=True) if given is not None else {}
        return cls(
            "Prometheus",
            url.get_secret_value() if url is not None else "",
            headers=headers,
            tls=_tls(
                settings.prometheus_certificate, settings.prometheus_client_certificate, settings.prometheus_client_key
            ),
            timeout=settings.prometheus_timeout,
        )

    def beside(self, name: str, url: str) -> "Server":
        """Another server; with the headers and certificates of this one where it has the same address, as Mimir's has.

        Args:
            name: Its name in errors.
            url: Its URL.
        """
        same = _address(httpx.URL(url)) == _address(self.url)
        headers, tls = (self.headers, self._tls) if same else ({}, None)
        return Server(name, url, headers=headers, tls=tls, timeout=self._timeout)

    async def ask(self, questions: "Callable[[Connection], Awaitable[T]]") -> T:
        """The result of `questions`, which are asked over a connection of their own.

        Raises:
            PrometheusError: There is no answer in time, or it is an error.
        """
        try:
            with without_http_logs_and_spans():
                async with client(EnvironmentProxies(self._tls) if self._tls is not None else None) as http:
                    return await asyncio.wait_for(questions(Connection(self, http)), self._timeout)
        except asyncio.TimeoutError:
            raise PrometheusError(f"{self.name}: no answer within {self._timeout:g} s") from None
        except httpx.HTTPError as error:
            cause = redact(error, limit=_REASON_LENGTH) or type(error).__name__
            raise PrometheusError(f"{self.name}: {cause}") from None


class Connection:
    """Asks one server. Each method raises `PrometheusError` or `httpx.HTTPError` where there is no usable answer.

    Args:
        server: The server.
        http: The client.
    """

    def __init__(self, server: Server, http: httpx.AsyncClient) -> None:
        self._server = server
        self._http = http
        self._free = asyncio.Semaphore(_AT_ONCE)

    async def query(self, expression: str, at: float | None = None) -> list[dict[str, Any]]:
        """The samples of an instant vector.

        Args:
            expression: PromQL.
            at: For which moment, in Unix seconds; None: now, by the server's clock.
        """
        asked = {"query": expression, **({"time": f"{at:.3f}"} if at is not None else {}), **_WHOLE}
        return _series(self._server.name, await self.ask("POST", "api/v1/query", form=asked))

    async def query_range(self, expression: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """The series of an expression, evaluated from `start` to `end` every `step` seconds."""
        asked = {"query": expression, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:.3f}", **_WHOLE}
        return _series(self._server.name, await self.ask("POST", "api/v1/query_range", form=asked))

    async def now(self) -> float:
        """The server's clock, in Unix seconds."""
        answer = await self.ask("POST", "api/v1/query", form={"query": "time()"})
        try:
            found = answer["data"]["result"]
            # A scalar; VictoriaMetrics has vectors alone.
            now = float((found[0]["value"] if isinstance(found[0], dict) else found)[1])
        except (LookupError, TypeError, ValueError):
            now = math.nan
        if not math.isfinite(now):
            raise PrometheusError(f"{self._server.name}: the answer has another form")
        return now

    async def ask(
        self,
        method: str,
        path: str,
        *,
        form: Mapping[str, str] | None = None,
        parameters: Sequence[tuple[str, str]] = (),
        body: Any = None,
    ) -> Any:
        """The JSON that the server answers; None: the body is empty.

        Args:
            method: The HTTP method.
            path: The path below the URL.
            form: Sent as a form.
            parameters: Sent as the query.
            body: Sent as JSON.
        """
        url = self._server.url
        request = self._http.build_request(
            method,
            url.copy_with(path=f"{url.path.rstrip('/')}/{path}"),
            headers=self._server.headers,
            data=dict(form) if form is not None else None,
            params=list(parameters) or None,
            json=body,
        )
        async with self._free:
            response = await self._http.send(request, stream=True)
            try:
                content = await _read(response)
            finally:
                await response.aclose()
        return self._answer(response, content)

    def _answer(self, response: httpx.Response, content: bytes) -> Any:
        if not response.is_success:
            raise PrometheusError(f"{self._server.name} answered {response.status_code}{_reason(content)}")
        if len(content) > _LARGEST:
            raise PrometheusError(f"{self._server.name}: the answer has more than {_LARGEST >> 20} MiB")
        try:
            return decoded(content.decode()) if content.strip() else None
        except (ValueError, RecursionError):
            raise PrometheusError(f"{self._server.name}: the answer is no JSON: is the URL that of its API?") from None


def decoded(text: str) -> Any:
    """The JSON of an answer.

    Raises:
        ValueError, RecursionError: It is none.
    """
    if len(text) >= _LONG:
        with suppress(ValueError, LookupError, TypeError):  # it is written in another way
            return _decoded_in_turns(text)
    return json.loads(text)


def _decoded_in_turns(text: str) -> Any:
    """The samples one by one: while the parser works, no other thread does."""
    head, _, samples = text.partition(_SAMPLES)
    decode, at, found = json.JSONDecoder().raw_decode, 0, []
    while not samples.startswith("]", at):
        give_way()
        sample, at = decode(samples, at)
        found.append(sample)
        at += samples.startswith(",", at)
    answer = json.loads(f"{head}{_SAMPLES}{samples[at:]}")
    answer["data"]["result"].extend(found)
    return answer


async def _read(response: httpx.Response) -> bytes:
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > _LARGEST:
            break
    return bytes(content)


def _reason(content: bytes) -> str:
    """Prometheus' own word for the kind of error, such as `bad_data`: the text would repeat the question."""
    try:
        kind = json.loads(content).get("errorType")
    except (ValueError, AttributeError):
        return ""
    return f" ({redact(kind, limit=40)})" if isinstance(kind, str) else ""


def _series(name: str, answer: Any) -> list[dict[str, Any]]:
    try:
        found = answer["data"]["result"]
    except (LookupError, TypeError):
        found = None
    if not isinstance(found, list) or not all(
        isinstance(one, dict) and isinstance(one.get("metric"), dict) for one in found
    ):
        raise PrometheusError(f"{name}: the answer has another form: is the URL that of its API?")
    if answer.get("isPartial"):
        raise PrometheusError(f"{name}: a part of its stores did not answer")
    return cast("list[dict[str, Any]]", found)


def _address(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


async def no_samples() -> list[dict[str, Any]]:
    """In place of a query among others that are awaited together: it asks nothing, and has no samples."""
    return []


def check_host(url: SecretStr | None, variable: str) -> None:
    """Check that httpx can send to `url`, which another parser may read differently.

    Raises:
        ConfigurationError: It cannot, e.g. to `http://①②⑦.0.0.1/`.
    """
    try:
        good = url is None or bool(httpx.URL(url.get_secret_value()).host)
    except (httpx.InvalidURL, ValueError):
        good = False
    if not good:
        raise ConfigurationError(f"{variable}: its host is neither a name nor an address")


def _tls(authority: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if authority is None and certificate is None:
        return None
    try:
        context = (
            ssl.create_default_context(cafile=str(authority)) if authority is not None else httpx.create_ssl_context()
        )
        if certificate is not None:
            context.load_cert_chain(str(certificate), str(key) if key is not None else None)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        files = "OTEL_MONITORING_PROMETHEUS_CERTIFICATE, _CLIENT_CERTIFICATE, _CLIENT_KEY"
        raise ConfigurationError(f"{files}: a file cannot be used: {reason}") from None
    return context
