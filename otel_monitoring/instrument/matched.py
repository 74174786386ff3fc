"""Which route answered: the full template, from what routing left in the scope, without matching all routes again."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import fastapi.routing
from fastapi.applications import FastAPI
from starlette.routing import Host, Match, Mount
from starlette.types import Scope

_MOUNT_TAIL = "/{path}"
_MAX_DEPTH = 16
_REDIRECT = 307


@dataclass(frozen=True, slots=True)
class _Leaf:
    regex: re.Pattern[str]
    template: str


@dataclass(frozen=True, slots=True)
class _Mounted:
    regex: re.Pattern[str]
    prefix: str
    app: Any


class _Level:
    """The routes of one router: by endpoint, and the mounts in order."""

    def __init__(self, routes: Sequence[Any]) -> None:
        self.routes = routes
        self.size = len(routes)
        self.leaves: dict[int, list[_Leaf]] = {}
        self.mounts: list[_Mounted] = []
        self.unknown: set[int] = set()
        self._kept: list[object] = []
        self._add(routes)

    def _add(self, routes: Iterable[Any]) -> None:
        for route in _flat(routes):
            original = getattr(route, "original_route", route)
            if isinstance(original, Mount):
                self.mounts.append(_Mounted(route.path_regex, route.path_format.removesuffix(_MOUNT_TAIL), route.app))
            elif isinstance(original, Host):
                self._add(getattr(route, "routes", None) or ())
            elif getattr(route, "endpoint", None) is not None and getattr(route, "path_format", None) is not None:
                self._kept.append(route.endpoint)
                self.leaves.setdefault(id(route.endpoint), []).append(_Leaf(route.path_regex, route.path_format))

    def template(self, endpoint: object, path: str) -> str | None:
        leaves = self.leaves.get(id(endpoint))
        if leaves is None:
            return None
        if len(leaves) == 1:
            return leaves[0].template
        return next((leaf.template for leaf in leaves if leaf.regex.match(path)), leaves[0].template)


class RouteTemplates:
    """Finds the template of the route that handled a request, in the words of FastAPI's own telemetry.

    A route's template begins with the root path and the templates of its mounts. What is mounted and is no FastAPI
    application or router has the mount's template, ending in `/{path}`. Unmatched paths have none.

    Args:
        app: The instrumented application.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._levels: dict[int, _Level] = {}

    def find(self, scope: Scope, status: int | None = None) -> str | None:
        """The template for a scope that has been routed.

        Args:
            scope: The scope the application's router has seen.
            status: The answer's status; a redirect to the path with or without a slash has its target's template.
        """
        root: str = scope.get("app_root_path", scope.get("root_path", ""))
        path: str = scope["path"]
        if root and path.startswith(root):
            path = path[len(root) :]
        prefix = root.rstrip("/")
        endpoint = scope.get("endpoint")
        if "app_root_path" in scope:
            return self._below_mounts(scope, endpoint, prefix, path, status)
        if endpoint is not None:
            template = self._level(self._app.routes, endpoint).template(endpoint, path)
            return None if template is None else prefix + template
        return self._redirected(self._app.routes, scope, prefix) if status == _REDIRECT else None

    def _below_mounts(self, scope: Scope, endpoint: object, prefix: str, path: str, status: int | None) -> str | None:
        routes: Sequence[Any] = self._app.routes
        for _ in range(_MAX_DEPTH):
            level = self._level(routes, endpoint)
            leaf = level.leaves.get(id(endpoint), ())
            found = next((entry for entry in leaf if entry.regex.match(path)), None)
            if found is not None:
                return prefix + found.template
            mount, match = _first_match(level.mounts, path)
            if mount is None or match is None:
                break
            prefix += mount.prefix
            path = "/" + match.group("path")
            below = (
                None if mount.app is endpoint and status != _REDIRECT else _routes_below(mount.app, scope, self._app)
            )
            if below is None:
                return prefix + _MOUNT_TAIL
            if mount.app is endpoint:
                return self._redirected(below, scope, prefix) or prefix + _MOUNT_TAIL
            routes = below
        return prefix + _MOUNT_TAIL

    def _level(self, routes: Sequence[Any], endpoint: object) -> _Level:
        level = self._levels.get(id(routes))
        known = level is not None and (
            endpoint is None or id(endpoint) in level.leaves or id(endpoint) in level.unknown
        )
        if level is None or level.size != len(routes) or not known:
            unknown = set() if level is None else level.unknown
            level = self._levels[id(routes)] = _Level(routes)
            if endpoint is not None and id(endpoint) not in level.leaves:
                level.unknown = unknown | {id(endpoint)}
        return level

    @staticmethod
    def _redirected(routes: Sequence[Any], scope: Scope, prefix: str) -> str | None:
        """The template the router redirected to: here routes are asked again, as the router did."""
        path: str = scope["path"]
        target = dict(scope, path=path.rstrip("/") if path.endswith("/") else path + "/")
        for route in _flat(routes):
            # Starlette's routes and FastAPI's contexts of them; an included APIRoute's own `matches` lacks the prefix.
            if route.matches(target)[0] is not Match.NONE:
                template = getattr(route, "path_format", None)
                return None if template is None else prefix + str(template)
        return None


def _flat(routes: Iterable[Any]) -> Iterator[Any]:
    """Routes with those of included routers, which FastAPI ≥ 0.137 keeps as a tree."""
    contexts = getattr(fastapi.routing, "iter_route_contexts", None)
    for route in routes:
        if hasattr(route, "effective_route_contexts"):
            yield from contexts([route]) if contexts is not None else route.effective_route_contexts()
        else:
            yield route


def _first_match(mounts: list[_Mounted], path: str) -> tuple[_Mounted | None, re.Match[str] | None]:
    for mount in mounts:
        match = mount.regex.match(path)
        if match is not None:
            return mount, match
    return None, None


def _routes_below(mounted: Any, scope: Scope, root: FastAPI) -> Sequence[Any] | None:
    """The routes of a mounted FastAPI application or router, also behind middleware; None for anything else."""
    app, seen = mounted, 0
    while app is not None and seen < _MAX_DEPTH:
        if isinstance(app, (FastAPI, fastapi.routing.APIRouter)):
            return app.routes
        app, seen = getattr(app, "app", None), seen + 1
    inner = scope.get("app")
    return inner.routes if isinstance(inner, FastAPI) and inner is not root else None
