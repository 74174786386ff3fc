"""Requests of our transport to real servers: what is sent, what is kept, and what goes wrong."""

import gzip
import resource
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import certifi
import pytest
import trustme

from otel_monitoring.config.otlp import Compression
from otel_monitoring.telemetry import http_transport
from otel_monitoring.telemetry.http_transport import HttpTransport, Result
from tests.http_server import Answer, HttpServer, Request
from tests.ports import free_port

TIMEOUT = 30.0


class Keeping:
    """A server that keeps connections; `connections` counts them, `leave` closes them after the next answer, unsaid."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.connections = 0
        self.leave = False
        self.left = threading.Event()
        keeping = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                keeping.connections += 1

            def finish(self) -> None:
                super().finish()
                with suppress(OSError):  # the client has left
                    self.connection.shutdown(socket.SHUT_WR)
                keeping.left.set()

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
        assert [post(transport, url, text).content() for text in (b"a", b"", b"c" * 60_000)] == [
            b"a",
            b"",
            b"c" * 60_000,
        ]
        assert server.connections == 1


def test_a_connection_that_the_server_has_left_is_made_again(transport: HttpTransport) -> None:
    with keeping() as server:
        url = f"http://127.0.0.1:{server.port}/"
        server.leave = True
        assert post(transport, url).status_code == 200
        server.leave = False
        server.left.wait(TIMEOUT)
        assert post(transport, url).status_code == 200
        assert server.connections == 2


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def without_end(part: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection.sendall(part)

    return answer


@contextmanager
def answering(*answers: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server whose connections, one after the other, get a request and are answered by `answers`; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                connection, _ = server.accept()
                with connection, suppress(ConnectionError):  # the client leaves when it has what it wants
                    received = b""
                    while not received.endswith(b"data"):
                        received += connection.recv(65_536)
                    answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        thread.join(TIMEOUT)
        assert not thread.is_alive()


def test_what_a_server_says_before_it_leaves_is_no_answer_to_the_next_request(transport: HttpTransport) -> None:
    idle, said = threading.Event(), threading.Event()

    def tired(connection: socket.socket) -> None:
        connection.sendall(OK)
        idle.wait(TIMEOUT)
        connection.sendall(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        said.set()
        connection.recv(1)

    with answering(tired, lambda connection: connection.sendall(OK)) as url:
        assert post(transport, url).status_code == 200
        idle.set()
        said.wait(TIMEOUT)
        assert post(transport, url).status_code == 200


def test_a_status_that_is_not_the_last_one_ends_the_connection(transport: HttpTransport) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    with answering(lambda connection: connection.sendall(early + OK), lambda connection: connection.sendall(OK)) as url:
        assert transport.is_connection_error(post(transport, url).error)
        assert post(transport, url).status_code == 200


@pytest.mark.parametrize(
    "part", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-Tea: " + b"a" * 65_530 + b"\r\n" * 99]
)
def test_an_answer_whose_status_and_headers_have_no_end_is_an_error(transport: HttpTransport, part: bytes) -> None:
    with answering(without_end(part)) as url:
        assert transport.is_connection_error(post(transport, url).error)


@pytest.mark.parametrize("field", [b"", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 1000000000000\r\n"])
def test_of_a_body_without_end_a_part_is_read(transport: HttpTransport, field: bytes) -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + field + b"\r\n")
        without_end(b"1\r\na\r\n")(connection)

    with answering(answer, lambda connection: connection.sendall(OK)) as url:
        result = post(transport, url)
        assert (result.status_code, result.error) == (200, None)
        assert len(result.content()) == 65_536
        assert post(transport, url).status_code == 200


@pytest.mark.parametrize(("said", "status"), [(b"HTTP/1.1 200 OK\r\n\r\n", 200), (b"HTTP/1.1 200 OK\r\nX-Tea: ", None)])
def test_an_answer_that_comes_too_slowly_is_given_up(
    transport: HttpTransport, said: bytes, status: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(1_000_000))
    monkeypatch.setattr(http_transport, "time", SimpleNamespace(monotonic=lambda: next(clock)))

    def answer(connection: socket.socket) -> None:
        connection.sendall(said)
        without_end(b"a")(connection)

    with answering(answer) as url:
        result = post(transport, url)
        assert result.status_code == status
        assert status or isinstance(result.error, TimeoutError)


@pytest.mark.parametrize("status", [301, 302, 304, 307, 308])
def test_a_redirection_is_no_success(transport: HttpTransport, status: int) -> None:
    with HttpServer(lambda _: Answer(status, b"", {"Location": "/elsewhere"})) as server:
        result = post(transport, server.url)
        assert len(server.requests) == 1
    assert (result.status_code, str(status) in str(result.error)) == (None, True)
    assert not transport.is_connection_error(result.error)


def test_a_path_may_have_any_letters(transport: HttpTransport) -> None:
    with HttpServer() as server:
        assert post(transport, f"{server.url}/tea/č?a=b%20c&d=ü").status_code == 200
        assert server.requests[0].path == "/tea/%C4%8D?a=b%20c&d=%C3%BC"


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("http://[::1]/v1/traces", ("::1", 80)),
        ("https://[2001:db8::4318]/v1/traces", ("2001:db8::4318", 443)),
        ("https://[::1]:4318/", ("::1", 4318)),
        ("http://tea", ("tea", 80)),
    ],
)
def test_whom_it_connects_to(url: str, server: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def create_connection(address: tuple[str, int], seconds: float, *_: object) -> None:
        asked.append((address, seconds))
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", create_connection)
    post(HttpTransport(certifi.where()), url)
    assert asked == [(server, TIMEOUT / 2)], "each address of a name gets so many seconds"


def test_a_process_without_further_file_descriptors_still_sends(transport: HttpTransport) -> None:
    with keeping() as server:
        url = f"http://127.0.0.1:{server.port}/"
        assert post(transport, url).status_code == 200
        before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, most))
        try:
            result = post(transport, url)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))
        assert (result.status_code, server.connections) == (200, 1), result


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
        assert server.connections == 1 or not accepted
        assert all(accepted or transport.is_connection_error(result.error) for result in results)


def test_a_certificate_that_is_not_there_is_an_error_of_each_request(tmp_path: Path) -> None:
    transport = HttpTransport(tmp_path / "none.pem")
    assert isinstance(post(transport, "https://127.0.0.1:1/").error, FileNotFoundError)
