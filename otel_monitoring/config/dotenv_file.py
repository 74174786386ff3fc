"""Reads `.env`. The file often belongs to other programs, so nothing in it keeps the service from starting promptly."""

import codecs
import io
import os
import select
import stat
import time
from typing import Final

from otel_monitoring.environment import warn_once

NAME: Final = ".env"

_MAX_BYTES: Final = 1 << 20
_PIPE_SECONDS = 0.5
"""How long the writer of a named pipe may take; managers of secrets provide `.env` as one."""
_MAX_LINES: Final = 5
"""The most line numbers in a warning."""
_PAUSE_SECONDS: Final = 0.02
_BYTE_ORDER_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def variables() -> dict[str, str]:
    """Every variable with a value in the working directory's `.env`; none, and a warning, where it cannot be read."""
    try:
        data = _content()
        found = _parsed(_decoded(data)) if data is not None else {}
    except FileNotFoundError:  # the file, or the working directory
        return {}
    except OSError as error:
        warn_once(f"{NAME}: it cannot be read ({type(error).__name__}); it is ignored")
        return {}
    except ValueError as error:
        warn_once(f"{NAME}: {error}; it is ignored")
        return {}
    return {name: value for name, value in found.items() if value}


def _parsed(text: str) -> dict[str, str | None]:
    """The variables of `text`. One warning names the statements that cannot be parsed; python-dotenv would log each."""
    # Imported late: most services have no such file where they run.
    from dotenv import dotenv_values
    from dotenv.parser import parse_stream

    statements = list(parse_stream(io.StringIO(text)))
    wrong = [str(one.original.line) for one in statements if one.error]
    if not wrong:
        return dotenv_values(stream=io.StringIO(text))
    more = f" and {len(wrong) - _MAX_LINES} more" if len(wrong) > _MAX_LINES else ""
    warn_once(f"{NAME}: what begins at line {', '.join(wrong[:_MAX_LINES])}{more} is no NAME=value; it is ignored")
    parsable = "".join(one.original.string for one in statements if not one.error)
    return dotenv_values(stream=io.StringIO(parsable))


def _content() -> bytes | None:
    """The bytes of the file or named pipe; None where `.env` is neither, such as a folder."""
    descriptor = os.open(NAME, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISFIFO(mode):
            return _from_pipe(descriptor)
        if not stat.S_ISREG(mode):
            return None
        with os.fdopen(os.dup(descriptor), "rb") as file:
            return _bounded(file.read(_MAX_BYTES + 1))
    finally:
        os.close(descriptor)


def _from_pipe(descriptor: int) -> bytes:
    until, data = time.monotonic() + _PIPE_SECONDS, b""
    while (left := until - time.monotonic()) > 0:
        select.select([descriptor], [], [], left)
        try:
            part = os.read(descriptor, _MAX_BYTES)
        except BlockingIOError:
            continue
        if data and not part:
            return data
        data = _bounded(data + part)
        if not part:  # nobody has opened it to write
            time.sleep(_PAUSE_SECONDS)
    raise ValueError("it is a pipe that nobody writes to" if not data else "it is a pipe that does not end")


def _bounded(data: bytes) -> bytes:
    if len(data) > _MAX_BYTES:
        raise ValueError("it is larger than 1 MiB")
    return data


def _decoded(data: bytes) -> str:
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeError:
        warn_once(f"{NAME}: it is not UTF-8; it is read as Latin-1")
        return data.decode("latin-1")
