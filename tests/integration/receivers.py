"""Real receivers of notifications on loopback, in the test's own loop: HTTP that answers as told, SMTP by aiosmtpd."""

import asyncio
import json
import ssl
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

Raw = bytes
"""An answer as it goes over the wire."""


def answer(status: str = "200 OK", body: str = "ok", **headers: str) -> Raw:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + f"\r\n\r\n{body}").encode()


HANG: Raw = b""
"""Take the request, answer nothing, keep the connection."""

ENDLESS: Raw = b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n"
"""A body that never ends."""


@dataclass
class Request:
    """One request that arrived; header names are lower case."""

    line: str
    headers: dict[str, str]
    body: bytes
    reply: Raw = b""

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class HttpReceiver:
    """What came in. `answers` are given in turn, the last one for ever."""

    answers: list[Raw]
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    sent: int = 0

    @property
    def accepted(self) -> list[Request]:
        """The requests that were answered with 2xx."""
        return [request for request in self.requests if request.reply.startswith(b"HTTP/1.1 2")]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            reply = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            self.requests.append(Request(head[0], headers, body, reply))
            self.arrived.set()
            if reply is HANG:
                await reader.read()
            writer.write(reply)
            await writer.drain()
            while reply is ENDLESS:
                writer.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
                self.sent += 65_536
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def http(*answers: Raw, tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[HttpReceiver]:
    receiver = HttpReceiver(list(answers) or [answer()])
    server = await asyncio.start_server(receiver._serve, "127.0.0.1", port, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()


@dataclass
class Mailbox:
    """An aiosmtpd handler that keeps what it took. `replies` gives a code and text by SMTP command or by recipient."""

    replies: dict[str, str] = field(default_factory=dict)
    stalls: str = ""
    """A command that is never answered."""
    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    envelopes: list[tuple[str | None, list[str], bool]] = field(default_factory=list)
    """Origin, recipients, and whether the connection was encrypted."""
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)
    greetings: list[str] = field(default_factory=list)
    """What clients said they are."""
    stalled: asyncio.Event = field(default_factory=asyncio.Event)

    async def _reply(self, command: str, otherwise: str = "250 OK") -> str:
        if command == self.stalls:
            self.stalled.set()
            await asyncio.Event().wait()
        return self.replies.get(command, otherwise)

    async def handle_EHLO(  # noqa: N802 - aiosmtpd finds it by this name
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        self.greetings.append(hostname)
        session.host_name = hostname
        return [self.replies["EHLO"]] if "EHLO" in self.replies else responses

    async def handle_MAIL(  # noqa: N802 - aiosmtpd finds it by this name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.mail_from = address
        return await self._reply("MAIL")

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        reply = await self._reply(address)
        if reply.startswith("250"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        reply = await self._reply("DATA")
        if reply.startswith("250"):
            assert isinstance(envelope.content, bytes)
            mail = message_from_bytes(envelope.content, policy=default)
            assert isinstance(mail, EmailMessage)
            self.mails.append(mail)
            encrypted = server.transport is not None and server.transport.get_extra_info("sslcontext") is not None
            self.envelopes.append((envelope.mail_from, list(envelope.rcpt_tos), encrypted))
        return reply

    def authenticate(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.logins.append((data.login, data.password))
        return AuthResult(success="AUTH" not in self.replies, handled=False, message=self.replies.get("AUTH"))


@asynccontextmanager
async def smtp(
    mailbox: Mailbox,
    *,
    starttls: ssl.SSLContext | None = None,
    tls: ssl.SSLContext | None = None,
    login: bool = False,
    port: int = 0,
) -> AsyncIterator[Mailbox]:
    loop = asyncio.get_running_loop()

    def session() -> SMTP:
        return SMTP(
            mailbox,
            loop=loop,
            hostname="localhost",
            tls_context=starttls,
            require_starttls=starttls is not None,
            authenticator=mailbox.authenticate if login else None,
            auth_required=login and starttls is not None,
            auth_require_tls=tls is None,
        )

    server = await loop.create_server(session, "127.0.0.1", port, ssl=tls)
    mailbox.port = server.sockets[0].getsockname()[1]
    try:
        yield mailbox
    finally:
        server.close()


class Loop:
    """An event loop in a thread, for receivers that serve while a test waits."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    @contextmanager
    def serve(self, receiver: Any) -> Iterator[Any]:
        """Enter an async context manager in the thread's loop, and leave it there."""
        value = self.run(receiver.__aenter__())
        try:
            yield value
        finally:
            self.run(receiver.__aexit__(None, None, None))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()
