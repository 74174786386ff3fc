"""`RouteTemplates`: the full template of the matched route, from the scope after routing, without matching again."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import fastapi.routing
from fastapi.applications import FastAPI
from starlette.datastructures import Headers
from starlette.routing import Host, Match, Mount
from starlette.types import Scope

from otel_monitoring import seams

_MOUNT_TAIL = "/{path}"
_MAX_DEPTH = 16
_REDIRECT = 307


class Entrance:
    """The state of a scope as the request enters the application, before routing changes it.

    Args:
        scope: The scope as it enters the application.

    Attributes:
        root_path: The root path, with which the path may begin; it is no part of the application's routes.
        prefix: The prefix of route templates: the root path if the path begins with it; empty if another application
            mounts this one.
        endpoint: The endpoint to which a mounting application has routed the request; None without one.
    """

    __slots__ = ("endpoint", "prefix", "root_path")

    def __init__(self, scope: Scope) -> None:
        self.root_path = root = scope.get("root_path", "")
        self.endpoint = scope.get("endpoint")
        with_root = root and "app_root_path" not in scope and route_path(scope, root) != scope["path"]
        self.prefix: str = root.rstrip("/") if with_root else ""


def entrance_of(scope: Scope) -> Entrance:
    """The entrance of a scope; one for all requests that come without a root path to an application of its own."""
    return Entrance(scope) if scope.get("root_path") or "endpoint" in scope else _PLAIN


_PLAIN = Entrance({"root_path": ""})


def route_path(scope: Scope, root_path: str) -> str:
    """The path with which routes are matched: the scope's path less the root path, if it begins with that."""
    path: str = scope["path"]
    if root_path and path.startswith(root_path):
        rest = path[len(root_path) :]
        if not rest or rest[0] == "/":
            return rest
    return path


class _Leaf(NamedTuple):
    place: int
    regex: re.Pattern[str]
    template: str


class _Branch(NamedTuple):
    """A mount or a host; the prefix of a host is None."""

    place: int
    regex: re.Pattern[str]
    prefix: str | None
    app: Any
    only: Sequence[Any] = ()
    """What it leads to where that is itself a mount or a host, and no router."""


class SeenRoutes:
    """The routes of one router and the routers it includes, as they were: what is known of them may be kept.

    Args:
        routes: The routes of the router.
    """

    def __init__(self, routes: Sequence[Any]) -> None:
        self._routers = list(_routers(routes))
        self._seen = [list(router.routes) for router in self._routers]
        self._routes = list(routes)

    def is_of(self, routes: Sequence[Any]) -> bool:
        """Whether the router still has the same routes."""
        return self._routes == routes and self._seen == [router.routes for router in self._routers]


class _Level(SeenRoutes):
    """The routes of one router and the routers it includes: leaves by endpoint, mounts and hosts in their order."""

    def __init__(self, routes: Sequence[Any]) -> None:
        super().__init__(routes)
        self.leaves: dict[int, list[_Leaf]] = {}
        self.branches: list[_Branch] = []
        # Keeps the endpoints alive, so that their ids stay unique.
        self._kept: list[object] = []
        for place, route in enumerate(flat(routes)):
            self._add(place, route)

    def leaf(self, endpoint: object, path: str) -> _Leaf | None:
        """The route of `endpoint` that matches `path`; None if there is none."""
        leaves = self.leaves.get(id(endpoint), ())
        if len(leaves) == 1 and not self.branches:
            return leaves[0]
        return next((leaf for leaf in leaves if leaf.regex.match(path)), None)

    def branch(self, path: str, scope: Scope, leaf: _Leaf | None) -> tuple[_Branch | None, re.Match[str] | None]:
        """The first mount or host before `leaf` that matches, which therefore took the request, and its match."""
        for branch in self.branches:
            if leaf is not None and leaf.place < branch.place:
                break
            match = branch.regex.match(path if branch.prefix is not None else _host(scope))
            if match is not None:
                return branch, match
        return None, None

    def _add(self, place: int, route: Any) -> None:
        only = [route.app] if isinstance(getattr(route, "app", None), (Mount, Host)) else ()
        if isinstance(route, Mount):
            prefix = route.path_format.removesuffix(_MOUNT_TAIL)
            self.branches.append(_Branch(place, route.path_regex, prefix, route.app, only))
        elif isinstance(route, Host):
            self.branches.append(_Branch(place, route.host_regex, None, route.app, only))
        elif getattr(route, "endpoint", None) is not None and getattr(route, "path_format", None) is not None:
            self._kept.append(route.endpoint)
            self.leaves.setdefault(id(route.endpoint), []).append(_Leaf(place, route.path_regex, route.path_format))


class RouteTemplates:
    """Finds the template of the route that handled a request, as FastAPI's own telemetry reports it.

    A template begins with the prefix of the entrance and the templates of the mounts. For a mounted application that is
    no FastAPI application or router, it is the mount's template, which ends in `/{path}`. Unmatched paths have none.

    Args:
        app: The instrumented application; also the attribute of that name.
    """

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self._levels: dict[int, _Level] = {}

    def find(self, scope: Scope, entrance: Entrance, status: int | None = None) -> str | None:
        """The template of the route that handled the request; None for an unmatched path.

        Args:
            scope: The scope after routing.
            entrance: The state of the scope before routing.
            status: The response's status; a redirect to the path with or without a slash has the target's template.
        """
        endpoint = scope.get("endpoint")
        routes: Sequence[Any] = self.app.router.routes
        prefix, tail = entrance.prefix, None
        if endpoint is None or endpoint is entrance.endpoint:
            return _redirected(routes, scope, prefix) if status == _REDIRECT else None
        path = route_path(scope, entrance.root_path)
        for _ in range(_MAX_DEPTH):
            level = self._level(routes)
            leaf = level.leaf(endpoint, path)
            branch, match = level.branch(path, scope, leaf)
            if branch is None:
                return tail if leaf is None else prefix + leaf.template
            if branch.prefix is not None and match is not None:
                prefix, path = prefix + branch.prefix, "/" + match.group("path")
                tail = prefix + _MOUNT_TAIL
            below = self._routes_below(branch, scope)
            if below is None:
                return tail
            if branch.app is endpoint:  # no route of the mounted application matched
                return (_redirected(below, scope, prefix) if status == _REDIRECT else None) or tail
            routes = below
        return tail

    def _level(self, routes: Sequence[Any]) -> _Level:
        level = self._levels.get(id(routes))
        if level is None or not level.is_of(routes):
            level = self._levels[id(routes)] = _Level(routes)
        return level

    def _routes_below(self, branch: _Branch, scope: Scope) -> Sequence[Any] | None:
        """The routes of the mounted FastAPI application or router, also behind middleware; None if there is none.

        Below a host, or if a further FastAPI application handled the request, any object with routes counts.
        """
        if branch.only:
            return branch.only
        app, seen, inner = branch.app, 0, scope.get("app")
        if not isinstance(inner, FastAPI) or inner is self.app:
            inner = None
        while app is not None and seen < _MAX_DEPTH:
            if isinstance(app, (FastAPI, fastapi.routing.APIRouter)) or (
                (inner is not None or branch.prefix is None) and hasattr(app, "routes")
            ):
                found: Sequence[Any] = app.routes
                return found
            app, seen = getattr(app, "app", None), seen + 1
        return None if inner is None else inner.routes


def flat(routes: Iterable[Any]) -> Iterator[Any]:
    """`routes`, with included routers replaced by their routes: FastAPI ≥ 0.137 keeps those as a tree."""
    for route in routes:
        yield from seams.FASTAPI_ROUTES.get(lambda included=route: _contexts(included), [route])  # type: ignore[misc]


def _contexts(route: Any) -> list[Any]:
    if not hasattr(route, "effective_route_contexts"):
        if type(route).__module__ == "fastapi.routing" and not hasattr(route, "path_format"):
            raise LookupError(f"{type(route).__name__} is of no known kind")
        return [route]
    contexts = getattr(fastapi.routing, "iter_route_contexts", None)
    found = contexts([route]) if contexts is not None else route.effective_route_contexts()
    # A mount, a host and a route of Starlette's stand there with a copy that has the prefix of the inclusion.
    return [getattr(context, "starlette_route", None) or context for context in found]


def _routers(routes: Iterable[Any]) -> Iterator[Any]:
    """The routers in a tree of included routers."""
    for route in routes:
        router = getattr(route, "original_router", None)
        if router is not None:
            yield router
            yield from _routers(seams.FASTAPI_ROUTES.get(lambda included=router: included.routes, []))  # type: ignore[misc]


def _host(scope: Scope) -> str:
    return (Headers(scope=scope).get("host") or "").rsplit("]", 1)[-1].split(":")[0].lower()


def _redirected(routes: Sequence[Any], scope: Scope, prefix: str) -> str | None:
    """The template of the route to which the router redirected; only here routes are matched again."""
    path: str = scope["path"]
    target = dict(scope, path=path.rstrip("/") if path.endswith("/") else path + "/")
    for route in flat(routes):
        # Starlette's routes and FastAPI's contexts of them; an included APIRoute's own `matches` lacks the prefix.
        if route.matches(target)[0] is not Match.NONE:
            template = getattr(route, "path_format", None)
            return None if template is None else prefix + str(template)
    return None
