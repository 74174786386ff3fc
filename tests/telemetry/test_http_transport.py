"""Requests of our transport to real servers: what is sent, what is kept, and what goes wrong."""

import gzip
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme

from otel_monitoring.config.otlp import Compression
from otel_monitoring.telemetry.http_transport import HttpTransport, Result
from tests.http_server import Answer, HttpServer, Request
from tests.ports import free_port

TIMEOUT = 30.0


class Keeping:
    """A server that keeps connections; `connections` counts them, `leave` closes them after the next answer, unsaid."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.connections = 0
        self.leave = False
        keeping = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                keeping.connections += 1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                self.close_connection = keeping.leave
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def keeping(context: ssl.SSLContext | None = None) -> Iterator[Keeping]:
    server = Keeping(context)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def transport() -> Iterator[HttpTransport]:
    made = HttpTransport("no-authority")
    yield made
    made.close()


def post(transport: HttpTransport, url: str, data: bytes = b"data", timeout: float = TIMEOUT) -> Result:
    return transport.request("POST", url, headers={"X-Tea": "green"}, timeout=timeout, data=data)


def test_what_is_sent_arrives_and_what_is_answered_comes_back(transport: HttpTransport) -> None:
    def answer(request: Request) -> Answer:
        return Answer(429, request.body.upper(), {"Retry-After": "7"})

    with HttpServer(answer) as server:
        result = post(transport, f"{server.url}/v1/traces?a=b%20c")
        (asked,) = server.requests
    assert (asked.method, asked.path, asked.body) == ("POST", "/v1/traces?a=b%20c", b"data")
    assert asked.headers["x-tea"] == "green"
    assert (result.status_code, result.content(), result.error) == (429, b"DATA", None)
    assert result.headers().get("retry-after") == "7"


def test_a_url_without_a_path(transport: HttpTransport) -> None:
    with HttpServer() as server:
        assert post(transport, server.url).status_code == 200
        assert server.requests[0].path == "/"


def test_one_connection_serves_all_requests(transport: HttpTransport) -> None:
    with keeping() as server:
        url = f"http://127.0.0.1:{server.port}/"
        assert [post(transport, url, text).content() for text in (b"a", b"", b"c" * 1_000_000)] == [
            b"a",
            b"",
            b"c" * 1_000_000,
        ]
        assert server.connections == 1


def test_a_connection_that_the_server_has_left_is_an_error_of_the_connection(transport: HttpTransport) -> None:
    with keeping() as server:
        url = f"http://127.0.0.1:{server.port}/"
        server.leave = True
        assert post(transport, url).status_code == 200
        server.leave = False
        left = post(transport, url)
        assert transport.is_connection_error(left.error), left
        assert post(transport, url).status_code == 200
        assert server.connections == 2


def test_a_server_that_says_that_it_leaves_is_connected_again(transport: HttpTransport) -> None:
    with HttpServer() as server:  # HTTP/1.0
        assert [post(transport, server.url).status_code for _ in range(2)] == [200, 200]


@pytest.mark.parametrize(("compression", "unpack"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
def test_what_is_sent_is_compressed(compression: Compression, unpack: Callable[[bytes], bytes]) -> None:
    transport = HttpTransport("no-authority", compression=compression)
    with HttpServer() as server:
        assert post(transport, server.url, b"tea" * 1000).status_code == 200
        (asked,) = server.requests
    transport.close()
    assert asked.headers["content-encoding"] == compression
    assert len(asked.body) < 100
    assert unpack(asked.body) == b"tea" * 1000


def test_nobody_listens(transport: HttpTransport) -> None:
    result = post(transport, f"http://127.0.0.1:{free_port()}/")
    assert isinstance(result.error, ConnectionRefusedError)
    assert transport.is_connection_error(result.error)
    assert result.status_code is None


def test_a_server_that_does_not_answer_is_given_up(transport: HttpTransport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        result = post(transport, f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout=0.05)
    assert isinstance(result.error, TimeoutError)


def test_an_answer_that_is_no_http_is_an_error(transport: HttpTransport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"SSH-2.0-OpenSSH_9\r\n")

        threading.Thread(target=answer, daemon=True).start()
        result = post(transport, f"http://127.0.0.1:{server.getsockname()[1]}/")
    assert transport.is_connection_error(result.error)


@pytest.mark.parametrize("header", ["a\r\nb: c", "č"])
def test_a_header_that_cannot_be_sent_is_no_error_of_the_connection(transport: HttpTransport, header: str) -> None:
    with HttpServer() as server:
        result = transport.request("POST", server.url, headers={"X-Tea": header}, timeout=TIMEOUT, data=b"")
        assert server.requests == []
    assert isinstance(result.error, ValueError)
    assert not transport.is_connection_error(result.error)


Client = Callable[[trustme.CA, Path], tuple[Path | None, Path | None]]


def nobody(_authority: trustme.CA, _directory: Path) -> tuple[None, None]:
    return None, None


def two_files(authority: trustme.CA, directory: Path) -> tuple[Path, Path]:
    own = authority.issue_cert("client.example.com")
    own.cert_chain_pems[0].write_to_path(str(directory / "client.pem"))
    own.private_key_pem.write_to_path(str(directory / "client.key"))
    return directory / "client.pem", directory / "client.key"


def one_file(authority: trustme.CA, directory: Path) -> tuple[Path, None]:
    authority.issue_cert("client.example.com").private_key_and_cert_chain_pem.write_to_path(str(directory / "both.pem"))
    return directory / "both.pem", None


@pytest.mark.parametrize(("client", "accepted"), [(nobody, False), (two_files, True), (one_file, True)])
def test_a_server_that_wants_to_know_the_client(client: Client, accepted: bool, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    transport = HttpTransport(tmp_path / "ca.pem", *client(authority, tmp_path))
    with keeping(context) as server:
        results = [post(transport, f"https://localhost:{server.port}/") for _ in range(2)]
        transport.close()
        assert [result.status_code == 200 for result in results] == [accepted] * 2
        assert all(accepted or transport.is_connection_error(result.error) for result in results)


def test_a_certificate_that_is_not_there_is_an_error_of_each_request(tmp_path: Path) -> None:
    transport = HttpTransport(tmp_path / "none.pem")
    assert isinstance(post(transport, "https://127.0.0.1:1/").error, FileNotFoundError)
