"""The exception that a request has ended with, whether or not a handler made a response of it."""

import sys
from typing import Final

_ANSWERED_BY: Final = "starlette.middleware.errors"


def root_error(error: BaseException) -> BaseException:
    """The exception in a group of one; Starlette before 0.42 raises such groups from streaming responses."""
    inner = getattr(error, "exceptions", None)
    while isinstance(inner, tuple) and len(inner) == 1:
        error = inner[0]
        inner = getattr(error, "exceptions", None)
    return error


def handled_exception() -> BaseException | None:
    """The exception that the caller is handling, or None."""
    return sys.exc_info()[1]


def unhandled_exception() -> BaseException | None:
    """The exception for which `ServerErrorMiddleware` sends a response, as no handler took it; None without one."""
    error = sys.exc_info()[1]
    trace = None if error is None else error.__traceback__
    caught_in = None if trace is None else trace.tb_frame.f_globals.get("__name__")
    return error if caught_in == _ANSWERED_BY else None
