"""`Receiver`: a small OTLP receiver on the loopback address that keeps spans and log records and passes them on.

It does the part of a Collector's work that `make flow` needs: OTLP over HTTP with protobuf, from its own processes.
"""

import gzip
import threading
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

MAX_BYTES = 16 * 1024 * 1024
PASS_ON_SECONDS = 5.0

_MESSAGES: dict[str, tuple[Any, Any]] = {
    "/v1/traces": (ExportTraceServiceRequest, ExportTraceServiceResponse),
    "/v1/metrics": (ExportMetricsServiceRequest, ExportMetricsServiceResponse),
    "/v1/logs": (ExportLogsServiceRequest, ExportLogsServiceResponse),
}
_DECODERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress}


@dataclass(frozen=True)
class Received:
    """A span or log record, and the name of the service that sent it."""

    service: str
    item: Any


@dataclass(frozen=True)
class Destination:
    """The endpoint that a signal is passed on to."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


class Receiver:
    """Listens from construction to `close`.

    Args:
        pass_on: The destinations by signal (`traces`, `metrics`, `logs`); requests are passed on unchanged.
    """

    def __init__(self, pass_on: Mapping[str, Destination]) -> None:
        self.spans: list[Received] = []
        self.records: list[Received] = []
        self.metrics: set[tuple[str, str]] = set()
        self.complaints: set[str] = set()
        self._pass_on = pass_on
        self._changed = threading.Condition()
        self._client = httpx.Client(timeout=PASS_ON_SECONDS)
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                receiver._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def wait(self, condition: Callable[["Receiver"], bool], seconds: float) -> bool:
        """Wait until `condition` holds; False after `seconds`."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(self), seconds)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._client.close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length", 0))
        if handler.path not in _MESSAGES or length > MAX_BYTES:
            handler.send_error(404 if length <= MAX_BYTES else 413)
            handler.close_connection = True
            return
        body = handler.rfile.read(length)
        encoding = handler.headers.get("Content-Encoding", "")
        request, response = _MESSAGES[handler.path]
        self._keep(request.FromString(_DECODERS.get(encoding, bytes)(body)))
        self._forward(handler.path.rpartition("/")[2], body, encoding)
        answer = response().SerializeToString()
        handler.send_response(200)
        handler.send_header("Content-Type", "application/x-protobuf")
        handler.send_header("Content-Length", str(len(answer)))
        handler.end_headers()
        handler.wfile.write(answer)

    def _keep(self, message: Any) -> None:
        with self._changed:
            for group in getattr(message, "resource_spans", ()):
                service = _service(group)
                self.spans += [Received(service, span) for scope in group.scope_spans for span in scope.spans]
            for group in getattr(message, "resource_logs", ()):
                service = _service(group)
                self.records += [Received(service, one) for scope in group.scope_logs for one in scope.log_records]
            for group in getattr(message, "resource_metrics", ()):
                service = _service(group)
                self.metrics |= {(service, one.name) for scope in group.scope_metrics for one in scope.metrics}
            self._changed.notify_all()

    def _forward(self, signal: str, body: bytes, encoding: str) -> None:
        destination = self._pass_on.get(signal)
        if destination is None:
            return
        headers = {**destination.headers, "Content-Type": "application/x-protobuf"}
        if encoding:
            headers["Content-Encoding"] = encoding
        try:
            self._client.post(destination.url, content=body, headers=headers).raise_for_status()
        except httpx.HTTPError as error:
            self.complaints.add(f"{signal} were not passed on: {error}")


def _service(group: Any) -> str:
    names = [a.value.string_value for a in group.resource.attributes if a.key == "service.name"]
    return names[0] if names else "unknown_service"
