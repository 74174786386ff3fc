"""The full template of the route that answered, from the scope after routing: routes are not matched again."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

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
    """Where a request entered the application, noted before routing changes the scope.

    Args:
        scope: The scope as it comes in.

    Attributes:
        root_path: What the path may begin with that is no part of the application's routes.
        prefix: What the names of its routes begin with: the root path, where the path came with it. Below another
            application they begin with nothing, wherever that mounts this one.
        endpoint: What an application around this one routed to.
    """

    __slots__ = ("endpoint", "prefix", "root_path")

    def __init__(self, scope: Scope) -> None:
        self.root_path = root = scope.get("root_path", "")
        self.endpoint = scope.get("endpoint")
        with_root = root and "app_root_path" not in scope and route_path(scope, root) != scope["path"]
        self.prefix: str = root.rstrip("/") if with_root else ""


def route_path(scope: Scope, root_path: str) -> str:
    """The path that routes are matched with: without the root path, if it begins with that."""
    path: str = scope["path"]
    if root_path and path.startswith(root_path):
        rest = path[len(root_path) :]
        if not rest or rest[0] == "/":
            return rest
    return path


@dataclass(frozen=True, slots=True)
class _Leaf:
    place: int
    regex: re.Pattern[str]
    template: str


@dataclass(frozen=True, slots=True)
class _Branch:
    """A mount, or a host, which has no prefix: None."""

    place: int
    regex: re.Pattern[str]
    prefix: str | None
    app: Any
    only: Sequence[Any] = ()
    """What it leads to where that is itself a mount or a host, and no router."""


class _Level:
    """The routes of one router, with those it includes: by endpoint, and the mounts and hosts in order."""

    def __init__(self, routes: Sequence[Any]) -> None:
        self.leaves: dict[int, list[_Leaf]] = {}
        self.branches: list[_Branch] = []
        # Their identities stay taken while this lives.
        self._kept: list[object] = []
        self._routers = list(_routers(routes))
        self._seen = [list(router.routes) for router in self._routers]
        self._routes = list(routes)
        for place, route in enumerate(flat(routes)):
            self._add(place, route)

    def is_of(self, routes: Sequence[Any]) -> bool:
        """Whether the router still has these routes."""
        return self._routes == routes and all(
            seen == router.routes for router, seen in zip(self._routers, self._seen, strict=True)
        )

    def leaf(self, endpoint: object, path: str) -> _Leaf | None:
        """The route of `endpoint` that took `path`, if no branch did."""
        leaves = self.leaves.get(id(endpoint), ())
        if len(leaves) == 1 and not self.branches:
            return leaves[0]
        return next((leaf for leaf in leaves if leaf.regex.match(path)), None)

    def branch(self, path: str, scope: Scope, leaf: _Leaf | None) -> tuple[_Branch | None, re.Match[str] | None]:
        """The mount or host that took `path`: the first that can, before `leaf`; the router never comes back."""
        for branch in self.branches:
            if leaf is not None and leaf.place < branch.place:
                break
            match = branch.regex.match(path if branch.prefix is not None else _host(scope))
            if match is not None:
                return branch, match
        return None, None

    def _add(self, place: int, route: Any) -> None:
        original = getattr(route, "original_route", route)
        only = [route.app] if isinstance(getattr(route, "app", None), (Mount, Host)) else ()
        if isinstance(original, Mount):
            prefix = route.path_format.removesuffix(_MOUNT_TAIL)
            self.branches.append(_Branch(place, route.path_regex, prefix, route.app, only))
        elif isinstance(original, Host):
            self.branches.append(_Branch(place, route.host_regex, None, route.app, only))
        elif getattr(route, "endpoint", None) is not None and getattr(route, "path_format", None) is not None:
            self._kept.append(route.endpoint)
            self.leaves.setdefault(id(route.endpoint), []).append(_Leaf(place, route.path_regex, route.path_format))


class RouteTemplates:
    """Finds the template of the route that handled a request, in the words of FastAPI's own telemetry.

    A route's template begins with the prefix of the entrance and the templates of its mounts. What is mounted and is no
    FastAPI application or router has the mount's template, ending in `/{path}`. Unmatched paths have none.

    Args:
        app: The instrumented application, also the attribute of that name.
    """

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self._levels: dict[int, _Level] = {}

    def find(self, scope: Scope, entrance: Entrance, status: int | None = None) -> str | None:
        """The template for a scope that has been routed.

        Args:
            scope: The scope the application's router has seen.
            entrance: Where it came in.
            status: The answer's status; a redirect to the path with or without a slash has its target's template.
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
            if branch.app is endpoint:  # nothing in it took the path
                return (_redirected(below, scope, prefix) if status == _REDIRECT else None) or tail
            routes = below
        return tail

    def _level(self, routes: Sequence[Any]) -> _Level:
        level = self._levels.get(id(routes))
        if level is None or not level.is_of(routes):
            level = self._levels[id(routes)] = _Level(routes)
        return level

    def _routes_below(self, branch: _Branch, scope: Scope) -> Sequence[Any] | None:
        """The routes of a FastAPI application or router, also behind middleware, or of anything that leads to one.

        A host leads to whatever it likes.
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
    """Routes with those of included routers, which FastAPI ≥ 0.137 keeps as a tree."""
    for route in routes:
        yield from seams.FASTAPI_ROUTES.get(lambda included=route: _contexts(included), [route])  # type: ignore[misc]


def _contexts(route: Any) -> list[Any]:
    if not hasattr(route, "effective_route_contexts"):
        if type(route).__module__ == "fastapi.routing" and not hasattr(route, "path_format"):
            raise LookupError(f"{type(route).__name__} is of no known kind")
        return [route]
    contexts = getattr(fastapi.routing, "iter_route_contexts", None)
    return list(contexts([route]) if contexts is not None else route.effective_route_contexts())


def _routers(routes: Iterable[Any]) -> Iterator[Any]:
    """The routers that such a tree includes."""
    for route in routes:
        router = getattr(route, "original_router", None)
        if router is not None:
            yield router
            yield from _routers(seams.FASTAPI_ROUTES.get(lambda included=router: included.routes, []))  # type: ignore[misc]


def _host(scope: Scope) -> str:
    return (Headers(scope=scope).get("host") or "").rsplit("]", 1)[-1].split(":")[0].lower()


def _redirected(routes: Sequence[Any], scope: Scope, prefix: str) -> str | None:
    """The template that the router redirected to; only here are routes matched again."""
    path: str = scope["path"]
    target = dict(scope, path=path.rstrip("/") if path.endswith("/") else path + "/")
    for route in flat(routes):
        # Starlette's routes and FastAPI's contexts of them; an included APIRoute's own `matches` lacks the prefix.
        if route.matches(target)[0] is not Match.NONE:
            template = getattr(route, "path_format", None)
            return None if template is None else prefix + str(template)
    return None
