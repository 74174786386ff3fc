"""A mailbox and a Slack webhook that print the demo's alerts.

Both are real servers on the loopback address, and receive what the API would send to yours.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from examples.earlybird.demo_options import free_port

LIMIT = 100_000


@contextmanager
def mailbox() -> Iterator[dict[str, str]]:
    """A mail server that prints the subjects of its mails; yields the settings to reach it."""
    port = free_port("0")
    controller = Controller(_Mailbox(), hostname="127.0.0.1", port=port, data_size_limit=LIMIT)
    controller.start()
    try:
        yield {
            "SMTP_SERVER": "127.0.0.1",
            "SMTP_PORT": str(port),
            "SMTP_SECURITY": "none",
            "ALERT_EMAIL_FROM": "earlybird@example.com",
            "ALERT_EMAIL_TO": "ops@example.com",
        }
    finally:
        controller.stop()


@contextmanager
def slack() -> Iterator[dict[str, str]]:
    """A webhook that prints the text of its messages; yields the settings to reach it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Webhook)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield {"SLACK_WEBHOOK_URL": f"http://127.0.0.1:{server.server_port}/services/demo"}
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def say(text: str) -> None:
    """Print above the live line, in one piece: several threads print."""
    print(f"\r\x1b[K{text}\n" if sys.stdout.isatty() else f"{text}\n", end="", flush=True)


class _Mailbox:
    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.content or b""
        mail = message_from_bytes(content.encode() if isinstance(content, str) else content, policy=default)
        say(f"  mail   {mail['Subject']}")
        return "250 OK"


class _Webhook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(min(int(self.headers.get("Content-Length", 0)), LIMIT)))
        say(f"  Slack  {body.get('text', '')}")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args: Any) -> None:
        """Print no line for each request."""
