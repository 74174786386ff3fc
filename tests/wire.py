"""A server that speaks MongoDB's wire protocol and answers as a test says: what no server at hand does."""

import itertools
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import bson

Document: TypeAlias = dict[str, Any]
Answer: TypeAlias = Callable[[Document], Document | Sequence[Document]]
"""The reply to a command; several: the batches of an exhaust cursor, which the server sends by itself."""

_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
_MORE_TO_COME = 1 << 1
_HELLO: Document = {
    "ismaster": True,
    "helloOk": True,
    "minWireVersion": 0,
    "maxWireVersion": 25,
    "maxBsonObjectSize": 16_000_000,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "logicalSessionTimeoutMinutes": 30,
    "ok": 1,
}
_numbers = itertools.count(1)


@contextmanager
def wire_server(answer: Answer) -> Iterator[str]:
    """A standalone server of version 8.0; its URI. It does not number its connections."""
    listening = socket.create_server(("127.0.0.1", 0))
    connections: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            connections.append(connection)
            threading.Thread(target=_serve, args=(connection, answer), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"mongodb://127.0.0.1:{listening.getsockname()[1]}/?directConnection=true"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        for connection in connections:
            connection.close()


def _serve(connection: socket.socket, answer: Answer) -> None:
    try:
        while True:
            length, request, _, operation = struct.unpack("<iiii", _read(connection, 16))
            body = _read(connection, length - 16)
            if operation == _OP_QUERY:
                reply = struct.pack("<iqii", 0, 0, 0, 1) + bson.encode(_HELLO)
                connection.sendall(_header(reply, request, _OP_REPLY) + reply)
                continue
            command = _command(body)
            name = next(iter(command))
            found = _HELLO if name in ("hello", "ismaster") else {"ok": 1} if name == "endSessions" else answer(command)
            if struct.unpack("<I", body[:4])[0] & _MORE_TO_COME:  # a write that is not acknowledged
                continue
            replies = [found] if isinstance(found, dict) else list(found)
            for left, document in zip(range(len(replies) - 1, -1, -1), replies, strict=True):
                reply = struct.pack("<IB", _MORE_TO_COME if left else 0, 0) + bson.encode(document)
                connection.sendall(_header(reply, request, _OP_MSG) + reply)
    except (OSError, EOFError):
        connection.close()


def _header(reply: bytes, request: int, operation: int) -> bytes:
    return struct.pack("<iiii", 16 + len(reply), next(_numbers), request, operation)


def _command(body: bytes) -> Document:
    """The body section of an OP_MSG; sequences of documents are left out."""
    at, found = 4, {}
    while at < len(body):
        kind, size = body[at], struct.unpack("<i", body[at + 1 : at + 5])[0]
        if kind == 0:
            found = bson.decode(body[at + 1 : at + 1 + size])
        at += 1 + size
    return found


def _read(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data
