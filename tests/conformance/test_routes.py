"""What a route is called: as it is declared, from where our application was entered, by the host that matched."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from fastapi.responses import PlainTextResponse
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import Host, Mount, Route, Router
from starlette.types import ASGIApp, Message

from tests.conformance.application import CopyScope, Gates
from tests.conformance.observed import Observed

pytestmark = pytest.mark.anyio


async def one(_: Any) -> Response:
    return PlainTextResponse("one")


async def two(_: Any) -> Response:
    return PlainTextResponse("two")


def items(name: str = "item", endpoint: Callable[..., Any] | None = None) -> FastAPI:
    """An application with `/items/{<name>}`, `/fail/{<name>}` and a mount of the same."""
    app = FastAPI()

    async def fail(_: Any) -> Response:
        return PlainTextResponse("", 503)

    app.add_route(f"/items/{{{name}}}", endpoint or one)
    app.add_route(f"/fail/{{{name}}}", fail)
    return app


def with_mounts() -> FastAPI:
    app = items()
    sub = items("part")
    app.mount("/sub/{tenant}", sub)
    app.mount("/wrapped", CORSMiddleware(items("part")))
    app.mount("/plain", Starlette(routes=[Route("/deep/{x}", one)]))
    router = APIRouter(prefix="/included")

    @router.get("/{x}")
    async def included(x: str) -> str:
        return x

    app.include_router(router)
    return app


def observe(engine: str, app: FastAPI, **options: Any) -> Observed:
    return Observed(engine, app, Gates(), **options)


async def get(app: ASGIApp, *paths: str, host: str = "test", **transport: Any) -> list[int]:
    over = httpx.ASGITransport(app, raise_app_exceptions=False, **transport)
    async with httpx.AsyncClient(transport=over, base_url=f"http://{host}") as client:
        return [(await client.get(path)).status_code for path in paths]


def routes(observed: Observed) -> dict[str | None, int]:
    return {attributes.get("http.route"): int(count) for attributes, count in observed.points()}


def check(observed: Observed, *expected: str | None) -> None:
    """One request of each route, in the metrics, the names of spans and their attributes, and what failed."""
    assert sorted(map(str, routes(observed).items())) == sorted(str((route, 1)) for route in expected)
    spans = observed.spans.get_finished_spans()
    assert sorted(map(str, ((span.attributes or {}).get("http.route") for span in spans))) == sorted(map(str, expected))
    assert sorted(span.name for span in spans) == sorted("GET" if e is None else f"GET {e}" for e in expected)
    failed = [route for route in expected if route is not None and "/fail/" in route]
    assert sorted(str(error.route) for error in observed.errors) == sorted(failed)


WRAPPERS: dict[str, Callable[[ASGIApp], ASGIApp]] = {
    "mounted": lambda app: Starlette(routes=[Mount("/shop", app)]),
    "mounted twice": lambda app: Starlette(routes=[Mount("/shop", Router([Mount("/", app)]))]),
    "mounted with a parameter": lambda app: Starlette(routes=[Mount("/{anything}", app)]),
    "behind middleware": lambda app: CopyScope(Starlette(routes=[Mount("/shop", CORSMiddleware(CopyScope(app)))])),
    "by host": lambda app: Starlette(routes=[Host("test", Router([Mount("/shop", app)]))]),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("root_path", ["", "/v1"])
async def test_below_another_application_names_begin_where_ours_was_entered(
    engine: str, wrapper: str, root_path: str
) -> None:
    app = with_mounts()
    observed = observe(engine, app)
    outer = WRAPPERS[wrapper](app)
    paths = [
        "/items/1",
        "/fail/1",
        "/sub/acme/items/1",
        "/sub/acme/fail/1",
        "/wrapped/items/1",
        "/plain/deep/x",
        "/included/1",
        "/none",
        "/sub/acme/none",
    ]
    statuses = await get(outer, *[f"{root_path}/shop{path}" for path in paths], root_path=root_path)
    assert statuses == [200, 503, 200, 503, 200, 200, 200, 404, 404]
    check(
        observed,
        "/items/{item}",
        "/fail/{item}",
        "/sub/{tenant}/items/{part}",
        "/sub/{tenant}/fail/{part}",
        "/wrapped/items/{part}",
        "/plain/{path}",
        "/included/{x}",
        None,
        "/sub/{tenant}/{path}",
    )


@pytest.mark.parametrize(
    ("path", "expected"), [("/v1/items/1", "/v1/items/{item}"), ("/items/1", "/items/{item}"), ("/v1", None)]
)
async def test_the_root_path_names_only_what_came_with_it(engine: str, path: str, expected: str | None) -> None:
    app = items()
    app.root_path = "/v1"
    observed = observe(engine, app)
    await get(app, path)
    check(observed, expected)


async def test_a_redirect_below_another_application_has_the_name_of_its_target(engine: str) -> None:
    app = with_mounts()
    observed = observe(engine, app)
    assert await get(Starlette(routes=[Mount("/shop", app)]), "/shop/included/1/", "/shop/sub/a/items/1/") == [307, 307]
    check(observed, "/included/{x}", "/sub/{tenant}/items/{part}")


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/v1/sub/x/fail/1", "/v1/sub/{tenant}/fail/{part}"), ("/v1/wrapped/fail/1", "/v1/wrapped/fail/{part}")],
)
async def test_the_root_path_and_mounts(engine: str, path: str, expected: str) -> None:
    app = with_mounts()
    app.root_path = "/v1"
    observed = observe(engine, app)
    await get(app, path)
    check(observed, expected)


@pytest.mark.parametrize("kind", ["application", "router", "mount", "plain router", "mount alone", "starlette"])
async def test_hosts_that_have_the_same_paths_are_told_apart(engine: str, kind: str) -> None:
    app = FastAPI()
    observed = observe(engine, app)
    for name in ("first", "second"):
        sub = items(name)
        inside: ASGIApp = sub
        if kind == "router":
            inside = sub.router
        if kind == "mount":
            inside = APIRouter()
            inside.mount("/shop", sub)
        if kind == "plain router":
            inside = Router([Mount("/shop", sub)])
        if kind == "mount alone":
            inside = Mount("/shop", Mount("/", sub))
        if kind == "starlette":
            inside = Starlette(routes=list(sub.routes))
        app.host(f"{name}.example.org", inside)
    app.add_route("/items/{rest}", one)
    prefix = "/shop" if kind in ("mount", "plain router", "mount alone") else ""
    for host in ("second.example.org", "first.example.org:8000"):
        assert await get(app, f"{prefix}/items/1", f"{prefix}/fail/1", host=host) == [200, 503]
    assert await get(app, "/items/1", host="elsewhere") == [200]
    check(
        observed,
        *[f"{prefix}/{what}/{{{name}}}" for name in ("first", "second") for what in ("items", "fail")],
        "/items/{rest}",
    )


async def test_routes_that_are_replaced_while_serving_have_their_new_names(engine: str) -> None:
    app = items("old")
    observed = observe(engine, app)
    await get(app, "/items/1")
    place = next(i for i, route in enumerate(app.router.routes) if getattr(route, "path", "") == "/items/{old}")
    app.router.routes[place] = Route("/items/{new}", one)
    await get(app, "/items/1")
    app.router.routes = [*app.router.routes[:place], Route("/items/{newest:path}", one)]
    await get(app, "/items/1")
    check(observed, "/items/{old}", "/items/{new}", "/items/{newest}")


async def test_mounts_that_are_replaced_while_serving_have_their_new_names(engine: str) -> None:
    app = FastAPI()
    app.mount("/shop", items("old"))
    observed = observe(engine, app)
    await get(app, "/shop/items/1")
    app.router.routes[-1] = Mount("/shop", items("new"))
    await get(app, "/shop/items/1")
    app.router.routes[-1].app.router.routes[:] = [Route("/items/{newest}", one)]  # type: ignore[attr-defined]
    await get(app, "/shop/items/1")
    check(observed, "/shop/items/{old}", "/shop/items/{new}", "/shop/items/{newest}")


@pytest.mark.parametrize("between", ["starlette", "router", "wrapped"])
async def test_what_stands_between_an_application_and_its_mount_is_named(engine: str, between: str) -> None:
    routes = [Mount("/deep/{level}", items("part")), Route("/plain/{x}", one)]
    inside: ASGIApp = Starlette(routes=routes)
    if between != "starlette":
        inside = Router(routes)
    app = FastAPI()
    app.mount("/sub", CORSMiddleware(inside) if between == "wrapped" else inside)
    observed = observe(engine, app)
    unnamed = ["/sub/{path}", "/sub/deep/{level}/{path}"]
    paths = ["/sub/deep/2/items/1", "/sub/deep/2/fail/1", "/sub/plain/1", "/sub/deep/2/none"]
    assert await get(app, *paths) == [200, 503, 200, 404]
    check(observed, "/sub/deep/{level}/items/{part}", "/sub/deep/{level}/fail/{part}", *unnamed)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/live/1", "/live/{x}"),
        ("/v1/live/1", "/v1/live/{x}"),
        ("/v1/sub/deep/live/1", "/v1/sub/deep/live/{x}"),
    ],
)
async def test_websockets_are_named_likewise(engine: str, path: str, expected: str) -> None:
    async def live(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()

    sub, app = FastAPI(), FastAPI()
    for one_of in (sub, app):
        one_of.router.add_api_websocket_route("/live/{x}", live)
    app.mount("/sub", Router([Mount("/deep", sub)]))
    app.root_path = "/v1"
    observed = observe(engine, app)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": path, "query_string": b"", "headers": []}
    await app(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]
    assert [span.name for span in observed.spans.get_finished_spans()] == [f"WS {expected}"]
