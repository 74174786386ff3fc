"""A loopback receiver, its own process, that accepts whatever exporters send and keeps only how much came where.

`GET /counts` answers the number of bytes received by path. It ends when its standard input closes.
"""

import json
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

received: Counter[str] = Counter()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        if self.headers.get("transfer-encoding") == "chunked":
            length = self._read_chunks()
        else:
            length = len(self.rfile.read(int(self.headers.get("content-length", 0))))
        received[self.path] += length
        # An empty body is an empty OTLP answer; Datadog's agent answers JSON.
        self._answer(b"" if "/v1/" in self.path else b"{}")

    def do_PUT(self) -> None:
        self.do_POST()

    def do_GET(self) -> None:
        self._answer(json.dumps(received).encode() if self.path == "/counts" else b"{}")

    def _read_chunks(self) -> int:
        total = 0
        while size := int(self.rfile.readline().split(b";")[0], 16):
            total += len(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return total

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    """Serve on a free port, which is the first line of the output."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
