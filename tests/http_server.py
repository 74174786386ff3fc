"""An HTTP server that answers as a test says, and keeps what it was asked."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import TypeVar

S = TypeVar("S", bound="HttpServer")


@dataclass(frozen=True)
class Request:
    """What was asked; the names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """A status, a body and headers, to which `Content-Length` is added; `before_body` is called when those are sent."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    before_body: Callable[[], object] = bool


class HttpServer:
    """Serves GET and POST from the start until the end of the `with` block; each request has a thread.

    Args:
        answer: What is answered. It may block: nobody waits for its thread.

    Attributes:
        url: Without a path.
        requests: What was asked, in order.
    """

    def __init__(self, answer: Callable[[Request], Answer] = lambda _: Answer()) -> None:
        self.requests: list[Request] = []
        keep = self.requests.append

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(int(headers.get("content-length", 0)))
                request = Request(self.command, self.path, headers, body)
                keep(request)
                told = answer(request)
                self.send_response_only(told.status)
                for name, value in {**told.headers, "Content-Length": str(len(told.body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                told.before_body()
                self.wfile.write(told.body)

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self: S) -> S:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
