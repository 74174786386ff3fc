"""`Router`: endpoints at a path. The route of each is made with its first request."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from starlette.routing import Route

from otel_monitoring.instrumentation.http_server.own_routes import Endpoint

F = TypeVar("F", bound=Callable[..., Any])


class Router:
    """Takes endpoints by decorators, as FastAPI's `APIRouter` does.

    Args:
        path: Where the paths of the endpoints begin.
        kind: Makes a route of a path, a function and `methods`.

    Attributes:
        endpoints: What was taken, in its order.
    """

    def __init__(self, path: str, kind: Callable[..., Route]) -> None:
        self._path = path
        self._kind = kind
        self.endpoints: list[Endpoint] = []

    def get(self, path: str, *, head: bool = False) -> Callable[[F], F]:
        """Answer GET at `path`; `head`: also HEAD."""
        return self._taking(path, ["GET", "HEAD"] if head else ["GET"])

    def post(self, path: str) -> Callable[[F], F]:
        """Answer POST at `path`."""
        return self._taking(path, ["POST"])

    def delete(self, path: str) -> Callable[[F], F]:
        """Answer DELETE at `path`."""
        return self._taking(path, ["DELETE"])

    def _taking(self, path: str, methods: list[str]) -> Callable[[F], F]:
        def take(function: F) -> F:
            whole = self._path + path
            make = partial(self._kind, whole, function, methods=methods)
            self.endpoints.append(Endpoint(whole, frozenset(methods), make))
            return function

        return take
