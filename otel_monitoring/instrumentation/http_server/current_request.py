"""`current_request`: the HTTP request in which the calling code runs."""

import re
from contextvars import ContextVar
from typing import NamedTuple

request_path: ContextVar[str | None] = ContextVar("otel_monitoring_request_path", default=None)
"""The path of the current HTTP request; the engines set it."""


class CurrentRequest(NamedTuple):
    """The instrumented HTTP request in which the calling code runs.

    Attributes:
        path: The decoded path, as in the ASGI scope.
    """

    path: str

    def is_called(self, endpoint: str) -> bool:
        """Whether `endpoint` is this request's path, also as `request.url.path` spells it.

        A handler that records an operation under its own path looks like a middleware that records the request; both
        are taken for the request.
        """
        return endpoint == self.path or _as_in_url(endpoint) == _as_in_url(self.path)


def current_request() -> CurrentRequest | None:
    """The instrumented HTTP request in which the calling code runs, or None.

    It is known in middleware, handlers, dependencies, worker threads and background tasks, and in tasks started there.
    """
    path = request_path.get()
    return None if path is None else CurrentRequest(path)


def _as_in_url(path: str) -> str:
    """The path in a form that is equal for all spellings of `request.url.path` by Starlette's versions."""
    plain = path.replace("%3F", "?").replace("%23", "#").replace("%5C", "\\")
    return re.split(r"[?#]", plain.translate({9: None, 10: None, 13: None}), maxsplit=1)[0]
