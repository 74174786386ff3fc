"""A real OTLP receiver for tests: HTTP and gRPC on loopback, decoding what arrives, failing in the ways that matter.

Modes: `ok`, `503`, `429` (with `Retry-After: 1`), `400` (refused for good), `hang` (takes the request, never answers).
For a port that refuses, use `free_port()` or `close()` a sink.
"""

import contextlib
import gzip
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, TypeAlias

import grpc  # type: ignore[import-untyped] # it ships no types
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb2
from typing_extensions import Self

Mode: TypeAlias = Literal["ok", "503", "429", "400", "hang"]
TIMEOUT = 30.0

_REQUESTS: dict[str, tuple[Any, Any]] = {
    "traces": (trace_pb2.ExportTraceServiceRequest, trace_pb2.ExportTraceServiceResponse),
    "metrics": (metrics_pb2.ExportMetricsServiceRequest, metrics_pb2.ExportMetricsServiceResponse),
    "logs": (logs_pb2.ExportLogsServiceRequest, logs_pb2.ExportLogsServiceResponse),
}
_GRPC_METHODS = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": "traces",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": "metrics",
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": "logs",
}


def _zstd(body: bytes) -> bytes:
    import zstandard  # of those who use the sink, only the Collector sends this

    return zstandard.ZstdDecompressor().decompressobj().decompress(body)


_DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress, "zstd": _zstd}


@dataclass(frozen=True)
class Received:
    """One request. `message` is the decoded protobuf; header names are lower case."""

    signal: str
    path: str
    headers: dict[str, str]
    message: Any


@dataclass
class Sink:
    """What arrived, whatever the transport. Use it as a context manager."""

    endpoint: str = ""
    port: int = 0
    mode: Mode = "ok"
    requests: list[Received] = field(default_factory=list)
    attempts: int = 0
    """Requests that came in, also those that were answered with an error."""
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _released: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let hanging requests go and stop listening."""
        self._released.set()

    def arrive(self, received: Received) -> Mode:
        """Note one request and say how to answer; blocks while the mode is `hang`."""
        with self._changed:
            self.attempts += 1
            mode = self.mode
            if mode == "ok":
                self.requests.append(received)
            self._changed.notify_all()
        if mode == "hang":
            self._released.wait()
        return mode

    def wait(self, condition: Callable[["Sink"], bool], timeout: float = TIMEOUT) -> None:
        """Wait until `condition(sink)` holds; it is asked again after each request."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), timeout), f"after {timeout} s: {self.requests}"

    def of(self, signal: str) -> list[Any]:
        """The decoded messages of one signal."""
        return [r.message for r in list(self.requests) if r.signal == signal]

    def spans(self) -> list[Any]:
        """Every span received."""
        return [s for m in self.of("traces") for r in m.resource_spans for scope in r.scope_spans for s in scope.spans]

    def metrics(self) -> list[Any]:
        """Every metric received, oldest first; a name comes once per export."""
        return [
            x
            for m in self.of("metrics")
            for r in m.resource_metrics
            for scope in r.scope_metrics
            for x in scope.metrics
        ]

    def records(self) -> list[Any]:
        """Every log record received."""
        return [
            x for m in self.of("logs") for r in m.resource_logs for scope in r.scope_logs for x in scope.log_records
        ]

    def resources(self) -> Iterator[dict[str, str]]:
        """The resource attributes of each message, as text."""
        for request in list(self.requests):
            for group in getattr(request.message, request.message.DESCRIPTOR.fields[0].name):
                yield {a.key: a.value.string_value for a in group.resource.attributes}


class HttpSink(Sink):
    """OTLP http/protobuf on a free loopback port (`port`: a certain one, to come back where one was closed)."""

    def __init__(self, mode: Mode = "ok", port: int = 0) -> None:
        super().__init__(mode=mode)
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                sink._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.port = self._server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="otlp-sink", daemon=True)
        self._thread.start()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        headers = {name.lower(): value for name, value in handler.headers.items()}
        body = handler.rfile.read(int(headers["content-length"]))
        encoding = headers.get("content-encoding")
        if encoding is not None:
            body = _DECOMPRESS[encoding](body)
        signal = handler.path.rpartition("/")[2]
        request, response = _REQUESTS[signal]
        mode = self.arrive(Received(signal, handler.path, headers, request.FromString(body)))
        if mode == "hang":
            handler.close_connection = True
            return
        handler.send_response(200 if mode == "ok" else int(mode))
        if mode == "429":
            handler.send_header("Retry-After", "1")
        answer = response().SerializeToString()
        handler.send_header("Content-Type", "application/x-protobuf")
        handler.send_header("Content-Length", str(len(answer)))
        handler.end_headers()
        handler.wfile.write(answer)

    def close(self) -> None:
        super().close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(TIMEOUT)


class GrpcSink(Sink):
    """OTLP over gRPC on a free loopback port."""

    def __init__(self, mode: Mode = "ok") -> None:
        super().__init__(mode=mode)
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="otlp-grpc-sink")
        self._server = grpc.server(self._pool)
        self._server.add_generic_rpc_handlers((_Service(self),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._server.start()

    def close(self) -> None:
        super().close()
        self._server.stop(0).wait(TIMEOUT)
        self._pool.shutdown()


class _Service:
    """A `grpc.GenericRpcHandler`, by its one method."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def service(self, handler_call_details: Any) -> Any:
        path = handler_call_details.method
        signal = _GRPC_METHODS[path]
        request, response = _REQUESTS[signal]
        headers = {str(name): str(value) for name, value in handler_call_details.invocation_metadata}

        def export(message: Any, context: Any) -> Any:
            mode = self._sink.arrive(Received(signal, path, headers, message))
            if mode != "ok":
                context.abort(grpc.StatusCode.UNAVAILABLE, f"sink says {mode}")
            return response()

        return grpc.unary_unary_rpc_method_handler(
            export, request_deserializer=request.FromString, response_serializer=response.SerializeToString
        )


class Relay:
    """A TCP relay on loopback that counts the bytes sent to `port`. Use it as a context manager."""

    def __init__(self, port: int) -> None:
        self.sent = 0
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="relay", daemon=True).start()

    def __enter__(self) -> "Relay":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                for source, target, counts in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pump, args=(source, target, counts), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, counts: bool) -> None:
        with contextlib.suppress(OSError), source, target:
            while data := source.recv(65_536):
                self.sent += len(data) * counts
                target.sendall(data)
