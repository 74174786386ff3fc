"""`OwnRoutes`: our endpoints among the routes of the application."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fastapi.applications import FastAPI
from starlette.datastructures import URLPath
from starlette.routing import BaseRoute, Host, Match, Mount, NoMatchFound, Route
from starlette.types import Receive, Scope, Send

from otel_monitoring.environment import announce
from otel_monitoring.instrumentation.http_server.route_template import flat, route_path

_MAX_DEPTH = 16
_WHOLE = ("/health", "/alerts")


class OwnRoutes(BaseRoute):
    """All our endpoints as one route, the first of the application, which yields to what the application says itself.

    Asked for one of our paths, it looks who would answer without us. A route of the application for exactly that path
    and method answers, also one that is mounted or was added later. A parameter, a catch-all or a mount that only
    happens to cover the path does not. `HEAD` goes with `GET`.

    A root path that covers the prefix, or its beginning, stands for that: with `FastAPI(root_path="/api")`, or mounted
    at `/api`, the application sees `/health` where the client asked for `/api/health`.

    Args:
        app: The application, also the attribute `application`.
        routes: Our routes, complete with the prefix.
        prefix: What their paths begin with, without a slash at its end; may be empty.
    """

    def __init__(self, app: FastAPI, routes: Iterable[BaseRoute], prefix: str) -> None:
        self.application = app
        self._routes = [route for route in routes if isinstance(route, Route)]
        self._prefix = prefix
        self._static = {route.path for route in self._routes if not route.param_convertors}
        self._begins = tuple(route.path.split("{")[0] for route in self._routes if route.param_convertors)
        # What libraries look at that list an application's routes.
        self.path = f"{prefix}/health"
        self.name = "otel_monitoring"
        self.include_in_schema = False

    def place(self) -> None:
        """Put our route first, so that the order of the application's routes does not matter."""
        routes = self.application.router.routes
        if not any(route is self for route in routes):
            routes.insert(0, self)

    def answers(self, scope: Scope) -> bool:
        """Whether the request in `scope`, as it enters the application, is for one of our endpoints.

        Those of an application that is mounted in this one are ours, too.
        """
        if scope["type"] != "http":
            return False
        path = route_path(scope, scope.get("root_path", ""))
        # With a slash too many the router redirects to it.
        if self._ours(path.rstrip("/"), scope) is not None and not self._kept(scope):
            return True
        return answers_below(self.application, scope)

    def announce(self) -> list[str]:
        """Name the endpoints that the application keeps for itself, in one line, if there are any.

        Returns:
            Them, as `GET /api/health`.
        """
        kept = [
            f"{method} {route.path}"
            for route in self._routes
            for method in _methods(route)
            if self._told(route, method)
        ]
        if kept:
            announce(
                f"The application has routes of its own for {', '.join(kept)}: they stay as they are, and the "
                "monitoring does not answer there. OTEL_MONITORING_PREFIX moves its endpoints elsewhere."
            )
        return kept

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether it takes the request, as the router asks every route."""
        if scope["type"] != "http":
            return Match.NONE, {}
        path = self._ours(route_path(scope, scope.get("root_path", "")), scope)
        if path is None or self._kept(scope):
            return Match.NONE, {}
        asked = {**scope, "path": path, "root_path": ""}
        partial: tuple[Match, Scope] = Match.NONE, {}
        for route in self._routes:
            match, child = route.matches(asked)
            if match is Match.FULL:
                return match, child
            if match is Match.PARTIAL and partial[0] is Match.NONE:
                partial = match, child
        return partial

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the route that `matches` found."""
        await scope["route"].handle(scope, receive, send)

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        """No name leads here: names are the application's."""
        raise NoMatchFound(name, path_params)

    def _ours(self, path: str, scope: Mapping[str, Any]) -> str | None:
        """The path of our endpoint that `path`, relative to the root path, means; None for every other."""
        if path in self._static or path.startswith(self._begins):
            return path
        root = scope.get("root_path")
        if root and any(part in path for part in _WHOLE):
            for begin in self._uncovered(root):
                whole = self._prefix + path.removeprefix(begin)
                if path.startswith(begin) and (whole in self._static or whole.startswith(self._begins)):
                    return whole
        return None

    def _uncovered(self, root_path: str) -> list[str]:
        """The prefix without what the root path already covers; empty where it covers all."""
        root, prefix = root_path.rstrip("/"), self._prefix
        ends = [place for place, sign in enumerate(f"{prefix}/") if sign == "/" and place]
        left = [prefix[end:] for end in ends if root.endswith(prefix[:end])]
        return [*left, ""] if prefix and root.startswith(f"{prefix}/") else left

    def _kept(self, scope: Scope) -> bool:
        """Whether a route of the application answers at exactly this path."""
        method = scope["method"]
        asked = {**scope, "method": "GET" if method == "HEAD" else method, "fastapi": {}}
        return _exact(self.application.router.routes, asked, _MAX_DEPTH)

    def _told(self, route: Route, method: str) -> bool:
        if route.param_convertors:
            return False
        below = route.path.removeprefix(self._prefix)
        paths = {route.path, *(begin + below for begin in self._uncovered(self.application.root_path))}
        return any(
            self._kept({"type": "http", "method": method, "path": path, "root_path": "", "headers": []})
            for path in paths
        )


def answers_below(app: Any, scope: Scope) -> bool:
    """Whether a request that enters `app` is for our endpoints in an application that is mounted in it."""
    if scope["type"] != "http" or not any(part in scope["path"] for part in _WHOLE):
        return False
    found = instrumented_below(app, scope)
    return found is not None and found[0].answers(found[1])


def instrumented_below(app: Any, scope: Scope) -> tuple[OwnRoutes, Scope] | None:
    """Our endpoints in the application, mounted in `app`, that a request to `app` enters, and the scope there."""
    return _below(app.routes, {**scope, "fastapi": {}}, _MAX_DEPTH)


def applications_below(app: Any) -> Iterator[FastAPI]:
    """The applications with our endpoints that are mounted in `app`, at any depth."""
    levels: list[Sequence[Any]] = [app.routes]
    for _ in range(_MAX_DEPTH):
        found = [route for routes in levels for route in flat(routes)]
        levels = [below for route in found if hasattr(route, "app") for below in _routes_below(route.app)]
        for routes in levels:
            yield from (route.application for route in routes if isinstance(route, OwnRoutes))


class _Taker(NamedTuple):
    """The route that takes a request.

    Attributes:
        path: Its template; None where it has none.
        mounts: `Mount` or `Host`; None where it answers itself.
        below: The routes of the application it leads to; None where they are not known.
        scope: What that application is called with.
    """

    path: str | None
    mounts: type[BaseRoute] | None
    below: Sequence[Any] | None
    scope: Scope


def _taker(routes: Sequence[Any], scope: Scope) -> _Taker | None:
    """The first of the application's own `routes` that takes the request; None where none does."""
    for route in flat(routes):
        original = getattr(route, "original_route", route)
        if isinstance(original, OwnRoutes):
            continue
        match, child = _answer(route, scope)
        if match is Match.FULL:
            mounts = next((kind for kind in (Mount, Host) if isinstance(original, kind)), None)
            below = None if mounts is None else next(_routes_below(route.app), None)
            return _Taker(getattr(route, "path", None), mounts, below, {**scope, **child})
    return None


def _answer(route: Any, scope: Scope) -> tuple[Match, Scope]:
    """What `route` says to the request; a route that cannot be asked takes nothing.

    The application's own kinds of routes may need what its middleware adds to the scope, and here they are asked before
    any middleware has run.
    """
    try:
        found: tuple[Match, Scope] = route.matches(dict(scope))
    except Exception:  # noqa: BLE001 - the application's
        return Match.NONE, {}
    return found


def _below(routes: Sequence[Any], scope: Scope, depth: int) -> tuple[OwnRoutes, Scope] | None:
    taker = _taker(routes, scope)
    if taker is None or taker.below is None or depth == 0:
        return None
    ours = next((inner for inner in taker.below if isinstance(inner, OwnRoutes)), None)
    return _below(taker.below, taker.scope, depth - 1) if ours is None else (ours, taker.scope)


def _methods(route: Route) -> list[str]:
    return sorted((route.methods or set()) - {"HEAD"})


def _exact(routes: Sequence[Any], scope: Scope, depth: int) -> bool:
    """Whether the first of `routes` that takes the request has no parameter in its path, nor have its mounts."""
    taker = _taker(routes, scope)
    if taker is None or (taker.mounts is not Host and (taker.path is None or "{" in taker.path)):
        return False
    if taker.mounts is None:
        return True
    return taker.below is not None and depth > 0 and _exact(taker.below, taker.scope, depth - 1)


def _routes_below(app: Any) -> Iterator[Sequence[Any]]:
    """The routes of what is mounted, also behind middleware."""
    for _ in range(_MAX_DEPTH):
        routes = getattr(app, "routes", None)
        if routes is not None:
            yield routes
            return
        app = getattr(app, "app", None)
