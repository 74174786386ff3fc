"""OTLP over HTTP without `requests`, against real servers."""

import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from shutil import which

import pytest

from otel_monitoring import seams
from otel_monitoring.config.otlp import OtlpSettings
from otel_monitoring.telemetry.direct_transport import DirectTransport, Result, TlsFiles
from otel_monitoring.telemetry.otlp_exporters import make_exporter
from tests.conftest import unavailable
from tests.integration.authority import Authority
from tests.otlp_sink import HttpSink
from tests.ports import free_port

Make = Callable[..., DirectTransport]
SECONDS = 20.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRETRY-AFTER: 7\r\nContent-Length: 2\r\n\r\nno"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


class Server:
    """Answers each request with the next of `answers`; after an empty one it closes the connection."""

    def __init__(self, *answers: bytes, tls: ssl.SSLContext | None = None) -> None:
        self.heads: list[str] = []
        self.connections = 0
        self.asked = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()
        self._answers = iter(answers)
        self._connection: socket.socket | None = None
        self._tls = tls
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http{'s' if tls else ''}://localhost:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._socket.accept()
            except OSError:
                return
            try:
                with self._tls.wrap_socket(plain, server_side=True) if self._tls else plain as connection:
                    self.connections += 1
                    self._connection = connection
                    self._answer(connection)
            except OSError:
                continue

    def _answer(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as lines:
            while first := lines.readline():
                head = first + b"".join(iter(lines.readline, b"\r\n"))
                self.heads.append(head.decode())
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
                lines.read(int(length.split(b":")[1]))
                self.asked.set()
                self.may_answer.wait(SECONDS)
                answer = next(self._answers)
                if not answer:
                    return
                connection.sendall(answer)

    def close(self) -> None:
        self.may_answer.set()
        for one in (self._socket, self._connection):
            with suppress(OSError):
                if one is not None:
                    one.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()


@contextmanager
def served(*answers: bytes, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(*answers, tls=tls)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(autouse=True)
def without_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*PROXIES, *(name.upper() for name in PROXIES), "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def make() -> Iterator[Make]:
    with ExitStack() as stack:

        def made(url: str, **files: Path | None) -> DirectTransport:
            transport = DirectTransport(url, TlsFiles(**files))
            stack.callback(transport.close)
            return transport

        yield made


def sent(transport: DirectTransport, url: str = "", timeout: float = SECONDS) -> Result:
    return transport.request("POST", url, headers={"X-Own": "mine"}, timeout=timeout, data=b"spans")


def test_a_request_has_path_query_and_headers_and_its_response_is_read(make: Make) -> None:
    with served(BUSY) as server:
        result = sent(make(f"{server.url}/otlp/v1/traces?team=shop"))
    assert server.heads[0].startswith("POST /otlp/v1/traces?team=shop HTTP/1.1\r\n")
    assert "X-Own: mine\r\n" in server.heads[0]
    assert (result.status_code, result.reason, result.error) == (503, "Service Unavailable", None)
    assert result.headers().get("retry-after") == "7"


def test_user_and_password_of_the_url_are_sent_as_a_header(make: Make) -> None:
    with served(OK) as server:
        sent(make(server.url.replace("//", "//me:open%20sesame@")))
    assert "Authorization: Basic bWU6b3BlbiBzZXNhbWU=\r\n" in server.heads[0]
    assert server.heads[0].startswith("POST / ")


def test_one_connection_is_kept_and_replaced_where_the_server_has_closed_it(make: Make) -> None:
    with served(OK, OK, b"", OK) as server:
        transport = make(server.url)
        assert [sent(transport).status_code for _ in range(2)] == [200, 200]
        assert server.connections == 1
        lost = sent(transport)
        assert transport.is_connection_error(lost.error)
        assert sent(transport).status_code == 200
        assert server.connections == 2


def test_the_rest_of_an_answer_that_never_ends_is_left(make: Make) -> None:
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 100_000
    with served(long, OK) as server:
        transport = make(server.url)
        assert [sent(transport).status_code for _ in range(2)] == [200, 200]


@pytest.mark.parametrize("host", ["127.0.0.1", "does-not-exist.invalid"])
def test_nobody_there_is_worth_another_try(make: Make, host: str) -> None:
    transport = make(f"http://{host}:{free_port()}")
    result = sent(transport)
    assert result.status_code is None
    assert transport.is_connection_error(result.error)
    assert not transport.is_connection_error(ValueError("a header"))


def test_no_answer_in_time_is_an_error(make: Make) -> None:
    with served(OK) as server:
        server.may_answer.clear()
        result = sent(make(server.url), timeout=0.05)
    assert isinstance(result.error, TimeoutError)


def test_closing_waits_for_nobody_and_the_request_in_progress_gets_its_answer(make: Make) -> None:
    with served(OK) as server:
        server.may_answer.clear()
        transport = make(server.url)
        results: list[Result] = []
        thread = threading.Thread(target=lambda: results.append(sent(transport)))
        thread.start()
        assert server.asked.wait(SECONDS)
        transport.close()
        server.may_answer.set()
        thread.join(SECONDS)
    assert [result.status_code for result in results] == [200]


def folder_of(authority: Path, folder: Path) -> Path:
    """A folder in which OpenSSL finds `authority`."""
    openssl = which("openssl")
    if openssl is None:
        unavailable("the name of a certificate in a folder of them is openssl's: install it")
    command = [openssl, "x509", "-hash", "-noout", "-in", str(authority)]
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    (folder / f"{name}.0").write_bytes(authority.read_bytes())
    return folder


@pytest.mark.parametrize("variable", [None, "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_who_may_have_signed_is_named_by_the_setting_or_a_variable(
    make: Make, variable: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    if variable is not None:
        monkeypatch.setenv(variable, str(folder_of(authority.trusted, tmp_path)))
    with served(OK, tls=authority.server("localhost")) as server:
        assert sent(make(server.url, authority=authority.trusted if variable is None else None)).status_code == 200


@pytest.mark.parametrize(("trusted", "name"), [(False, "localhost"), (True, "elsewhere.example.com")])
def test_a_server_that_is_not_the_one_gets_nothing(make: Make, trusted: bool, name: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with served(OK, tls=authority.server(name)) as server:
        result = sent(make(server.url, authority=authority.trusted if trusted else None))
    assert "certificate verify failed" in str(result.error)
    assert server.heads == []


def test_an_export_loads_no_requests() -> None:
    with HttpSink() as sink:
        script = f"""
import sys
from otel_monitoring.config.otlp import OtlpSettings
from otel_monitoring.telemetry.otlp_exporters import make_exporter
for signal in ("traces", "metrics", "logs"):
    make_exporter(signal, OtlpSettings(otlp_endpoint={sink.endpoint!r}))
print(sorted({{"requests", "urllib3", "charset_normalizer"}} & sys.modules.keys()))
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_an_sdk_without_the_seam_sends_with_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry.exporter.otlp.proto.http import trace_exporter

    original: Callable[..., object] = trace_exporter.OTLPSpanExporter

    def of_another_release(**options: object) -> object:
        if "_transport" in options:
            raise TypeError("unexpected keyword argument")
        return original(**options)

    monkeypatch.setattr(trace_exporter, "OTLPSpanExporter", of_another_release)
    with HttpSink() as sink:
        exporter = make_exporter("traces", OtlpSettings(otlp_endpoint=sink.endpoint))
        assert exporter.export([]).name == "SUCCESS"
        exporter.shutdown()
    assert sink.attempts == 1
    assert not seams.EXPORTER_TRANSPORT.holds
