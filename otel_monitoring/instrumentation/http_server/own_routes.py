"""`OwnRoutes`: our endpoints as one route of the application."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from fastapi.applications import FastAPI
from fastapi.routing import APIRoute, APIWebSocketRoute
from starlette.datastructures import URLPath
from starlette.routing import BaseRoute, Host, Match, Mount, NoMatchFound, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from otel_monitoring.instrumentation.http_server.route_template import SeenRoutes, flat, route_path
from otel_monitoring.runtime.start_log import announce

_MAX_DEPTH = 16
_KNOWN = (Route.matches, APIRoute.matches, WebSocketRoute.matches, APIWebSocketRoute.matches, Mount.matches)


class Endpoint:
    """One of our endpoints. Its route is made with the first request, as most processes are asked for few of them.

    Args:
        path: Its path, with path parameters in braces.
        methods: The HTTP methods that it answers.
        make: Makes its route.
    """

    def __init__(self, path: str, methods: frozenset[str], make: Callable[[], Route]) -> None:
        self.path = path
        self.methods = methods
        self._make = make
        self.begin, brace, _ = path.partition("{")
        self.has_parameters = bool(brace)

    @cached_property
    def route(self) -> Route:
        """The route."""
        return self._make()

    def may_have(self, path: str) -> bool:
        """False if its route takes no request to `path`."""
        return path.startswith(self.begin) if self.has_parameters else path == self.path


class OwnRoutes(BaseRoute):
    """All our endpoints as one route, which is the application's first and gives precedence to its own routes.

    For a request to one of our paths it looks for the application's route that would take it. A route for exactly that
    path and method takes it, even if it is mounted or was added later. A path parameter, a catch-all or a mount that
    merely covers the path does not. `HEAD` is treated as `GET`.

    A root path may stand for the prefix or its beginning: with `FastAPI(root_path="/api")`, or mounted at `/api`, the
    application sees `/health` when the client requests `/api/health`.

    Args:
        app: The application; it is also the attribute `application`.
        endpoints: Our endpoints, with the prefix in their paths.
        prefix: The beginning of their paths, without a slash at the end; may be empty.
    """

    def __init__(self, app: FastAPI, endpoints: Iterable[Endpoint], prefix: str) -> None:
        self.application = app
        self._endpoints = tuple(endpoints)
        self._prefix = prefix
        self._static = {endpoint.path for endpoint in self._endpoints if not endpoint.has_parameters}
        self._begins = tuple(endpoint.begin for endpoint in self._endpoints if endpoint.has_parameters)
        self._exact_paths: _ExactPaths | None = None
        # Attributes that libraries read which list the routes of an application.
        self.path = f"{prefix}/health"
        self.name = "otel_monitoring"
        self.include_in_schema = False

    def place(self) -> None:
        """Make this the first route, so that the order of the application's routes does not matter."""
        routes = self.application.router.routes
        if not any(route is self for route in routes):
            routes.insert(0, self)

    def answers(self, scope: Scope) -> bool:
        """Whether the request in `scope`, as it enters the application, is for one of our endpoints.

        This includes our endpoints in mounted applications.
        """
        if scope["type"] != "http" or not _may_be_ours(scope["path"]):
            return False
        path = route_path(scope, scope.get("root_path", ""))
        # The router redirects a path with an additional slash to it.
        if self._ours(path.rstrip("/"), scope) is not None and not self._kept(scope):
            return True
        return answers_below(self.application, scope)

    def announce(self) -> list[str]:
        """Log the endpoints that the application answers with routes of its own, if there are any.

        Returns:
            These endpoints, as `GET /api/health`.
        """
        kept = [
            f"{method} {endpoint.path}"
            for endpoint in self._endpoints
            for method in sorted(endpoint.methods - {"HEAD"})
            if self._is_kept(endpoint, method)
        ]
        if kept:
            announce(
                f"The application has routes of its own for {', '.join(kept)}: they stay as they are, and the "
                "monitoring does not answer there. OTEL_MONITORING_PREFIX moves its endpoints elsewhere."
            )
        return kept

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether this route takes the request; the router calls it for every route."""
        if scope["type"] != "http" or not _may_be_ours(scope["path"]):
            return Match.NONE, {}
        path = self._ours(route_path(scope, scope.get("root_path", "")), scope)
        if path is None or self._kept(scope):
            return Match.NONE, {}
        asked = {**scope, "path": path, "root_path": ""}
        partial: tuple[Match, Scope] = Match.NONE, {}
        for endpoint in self._endpoints:
            if not endpoint.may_have(path):
                continue
            match, child = endpoint.route.matches(asked)
            child["route"] = endpoint.route
            if match is Match.FULL:
                return match, child
            if match is Match.PARTIAL and partial[0] is Match.NONE:
                partial = match, child
        return partial

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle the request with the route that `matches` found."""
        await scope["route"].handle(scope, receive, send)

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        """Raise `NoMatchFound`: route names are the application's."""
        raise NoMatchFound(name, path_params)

    def _ours(self, path: str, scope: Mapping[str, Any]) -> str | None:
        """The path of our endpoint for `path`, which is relative to the root path; None if it is not ours."""
        if path in self._static or path.startswith(self._begins):
            return path
        root = scope.get("root_path")
        if root:
            for begin in self._uncovered(root):
                whole = self._prefix + path.removeprefix(begin)
                if path.startswith(begin) and (whole in self._static or whole.startswith(self._begins)):
                    return whole
        return None

    def _uncovered(self, root_path: str) -> list[str]:
        """The rest of the prefix that the root path does not cover, for each way in which it may cover it."""
        root, prefix = root_path.rstrip("/"), self._prefix
        ends = [place for place, sign in enumerate(f"{prefix}/") if sign == "/" and place]
        left = [prefix[end:] for end in ends if root.endswith(prefix[:end])]
        return [*left, ""] if prefix and root.startswith(f"{prefix}/") else left

    def _kept(self, scope: Scope) -> bool:
        """Whether a route of the application takes exactly this path and method."""
        routes, known = self.application.router.routes, self._exact_paths
        if known is None or not known.is_of(routes):
            known = self._exact_paths = _ExactPaths(routes)
        if not known.may_have(route_path(scope, scope.get("root_path", ""))):
            return False
        method = scope["method"]
        asked = {**scope, "method": "GET" if method == "HEAD" else method, "fastapi": {}}
        return _exact(routes, asked, _MAX_DEPTH)

    def _is_kept(self, endpoint: Endpoint, method: str) -> bool:
        if endpoint.has_parameters:
            return False
        below = endpoint.path.removeprefix(self._prefix)
        paths = {endpoint.path, *(begin + below for begin in self._uncovered(self.application.root_path))}
        return any(
            self._kept({"type": "http", "method": method, "path": path, "root_path": "", "headers": []})
            for path in paths
        )


class _ExactPaths(SeenRoutes):
    """Which paths the routes may take exactly, as `_exact` means it: nearly every request needs no more than that."""

    def __init__(self, routes: Sequence[Any]) -> None:
        super().__init__(routes)
        self._paths: set[str] = set()
        self._mounted: list[str] = []
        self._anything = False
        for route in flat(routes):
            self._add(route, getattr(route, "original_route", route))
        self._begins = tuple(self._mounted)

    def may_have(self, path: str) -> bool:
        """False if no route takes exactly `path`."""
        return self._anything or path in self._paths or path.startswith(self._begins)

    def _add(self, route: Any, original: Any) -> None:
        if isinstance(original, OwnRoutes):
            return
        path = getattr(route, "path", None)
        if type(original).matches not in _KNOWN or path is None:
            self._anything = True  # a host, or a class of the application's own
        elif "{" in path:
            return
        elif not isinstance(original, Mount):
            self._paths.add(path)
        elif next(_routes_below(route.app), None) is not None:
            self._mounted.append(path)


def _may_be_ours(path: str) -> bool:
    """Whether a path may be that of one of our endpoints: most requests need no closer look."""
    return "/health" in path or "/alerts" in path or "/status" in path


def answers_below(app: Any, scope: Scope) -> bool:
    """Whether a request that enters `app` is for our endpoints in a mounted application."""
    if scope["type"] != "http" or not _may_be_ours(scope["path"]):
        return False
    found = instrumented_below(app, scope)
    return found is not None and found[0].answers(found[1])


def instrumented_below(app: Any, scope: Scope) -> tuple[OwnRoutes, Scope] | None:
    """Our endpoints in the mounted application that takes the request, and the scope there; None without one."""
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
        path: The route's template; None if it has none.
        mounts: `Mount` or `Host`; None if the route has an endpoint.
        below: The routes of the mounted application; None if they are not known.
        scope: The scope with which the mounted application is called.
    """

    path: str | None
    mounts: type[BaseRoute] | None
    below: Sequence[Any] | None
    scope: Scope


def _taker(routes: Sequence[Any], scope: Scope) -> _Taker | None:
    """The first of the application's own `routes` that takes the request; None if none does."""
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
    """The match of `route` for the request; a route that raises does not match.

    Route classes of the application may need what its middleware adds to the scope; no middleware has run here.
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


def _exact(routes: Sequence[Any], scope: Scope, depth: int) -> bool:
    """Whether the route that takes the request, and the mounts that lead to it, have no path parameter."""
    taker = _taker(routes, scope)
    if taker is None or (taker.mounts is not Host and (taker.path is None or "{" in taker.path)):
        return False
    if taker.mounts is None:
        return True
    return taker.below is not None and depth > 0 and _exact(taker.below, taker.scope, depth - 1)


def _routes_below(app: Any) -> Iterator[Sequence[Any]]:
    """The routes of a mounted application, also behind middleware."""
    for _ in range(_MAX_DEPTH):
        routes = getattr(app, "routes", None)
        if routes is not None:
            yield routes
            return
        app = getattr(app, "app", None)
