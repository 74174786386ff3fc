"""URLs that people type, and answers that are not ours."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from otel_monitoring.cli.service import DeniedError, Service, UnreachableError


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://localhost:8000", "http://localhost:8000/api"),
        ("http://localhost:8000/", "http://localhost:8000/api"),
        ("localhost:8000", "http://localhost:8000/api"),
        ("https://orders.example.com/internal/", "https://orders.example.com/internal"),
        ("http://localhost:8000/api/health", "http://localhost:8000/api"),
        ("http://[::1]:8000", "http://[::1]:8000/api"),
    ],
)
def test_the_endpoints_are_found(url: str, base: str) -> None:
    service = Service(url)
    service.close()
    assert service.url == base


@pytest.mark.parametrize("url", ["", "ftp://localhost", "http://", "http://localhost:port", "http://localhost/?a=1"])
def test_what_is_no_url_is_said(url: str) -> None:
    with pytest.raises(ValueError, match=r"port|no URL"):
        Service(url)


@pytest.fixture
def answering() -> Iterator[ThreadingHTTPServer]:
    """Answers with the status in the path and the body that the attribute `body` holds; `hang` never ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = self.path.rpartition("/")[2]
            self.send_response(200 if status == "hang" else int(status))
            self.end_headers()
            if status == "hang":
                released.wait()
            self.wfile.write(server.body)  # type: ignore[attr-defined]

        def log_message(self, *_: object) -> None:
            pass

    released = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.body = b""  # type: ignore[attr-defined]
    server.block_on_close = False
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    released.set()
    server.shutdown()
    server.server_close()


def service_at(server: ThreadingHTTPServer, timeout: float = 5.0) -> Service:
    return Service(f"http://127.0.0.1:{server.server_address[1]}", token="s3cret-token", timeout=timeout)


def test_answers_are_told_apart(answering: ThreadingHTTPServer) -> None:
    service = service_at(answering)
    answering.body = b'{"status": "unhealthy"}'  # type: ignore[attr-defined]
    answer = service.get("/503")
    assert answer is not None
    assert (answer.status, answer.body) == (503, {"status": "unhealthy"})
    assert service.get("/404") is None
    answering.body = json.dumps({"detail": "set OTEL_MONITORING_ADMIN_TOKEN"}).encode()  # type: ignore[attr-defined]
    with pytest.raises(DeniedError, match="set OTEL_MONITORING_ADMIN_TOKEN"):
        service.get("/403")
    answering.body = b"<html>Bad gateway</html>"  # type: ignore[attr-defined]
    with pytest.raises(UnreachableError, match="502 without JSON"):
        service.get("/502")
    with pytest.raises(DeniedError, match="token"):
        service.get("/401")
    service.close()


def test_a_service_that_hangs_is_not_waited_for(answering: ThreadingHTTPServer) -> None:
    service = service_at(answering, timeout=0.2)
    with pytest.raises(UnreachableError, match="timed out"):
        service.get("/hang")
    service.close()


def test_a_proxy_is_not_asked_for_this_machine(answering: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    answering.body = b"{}"  # type: ignore[attr-defined]
    service = service_at(answering)
    assert service.get("/200") is not None
    service.close()
