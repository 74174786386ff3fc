"""Our endpoints among the routes of the application: found whatever it has, and never in the place of its own."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.staticfiles import StaticFiles
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Match, Mount, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from otel_monitoring.monitoring import MonitoringService
from tests.asgi import served

pytestmark = pytest.mark.anyio
TOKEN = {"authorization": "Bearer token-of-the-test"}
PATHS = ["/api/health", "/api/health/live", "/api/health/ready", "/api/health/detailed", "/api/alerts/summary"]


def monitor(app: FastAPI, **settings: Any) -> MonitoringService:
    chosen = {"store": "memory", "admin_token": "token-of-the-test", **settings}
    return MonitoringService(None, **chosen).instrument(app)


def rooted(root_path: str) -> FastAPI:
    """`FastAPI(root_path=...)`, which later versions deprecate."""
    app = FastAPI()
    app.root_path = root_path
    return app


def mine(app: FastAPI | APIRouter, path: str, *methods: str) -> None:
    async def answer(request: Request) -> dict[str, str]:
        return {"mine": f"{request.method} {path}"}

    app.add_api_route(path, answer, methods=list(methods or ("GET",)))


async def own(_: Any) -> PlainTextResponse:
    return PlainTextResponse("mine")


def parameter(app: FastAPI, _: Path) -> None:
    mine(app, "/api/{x}", "GET", "POST")


def catch_all(app: FastAPI, _: Path) -> None:
    mine(app, "/{rest:path}", "GET", "POST", "HEAD", "OPTIONS")


def included(app: FastAPI, _: Path) -> None:
    router, inner = APIRouter(prefix="/api"), APIRouter(prefix="/{x}")
    mine(inner, "/{y}")
    mine(router, "/{rest}")
    router.include_router(inner)
    app.include_router(router)


def files(app: FastAPI, folder: Path) -> None:
    app.mount("/", StaticFiles(directory=folder, html=True))


def mounted(app: FastAPI, _: Path) -> None:
    sub = FastAPI()
    mine(sub, "/{rest:path}")
    app.mount("/api", sub)


def opaque(app: FastAPI, _: Path) -> None:
    app.mount("/api", PlainTextResponse("everything"))


def tenant(app: FastAPI, _: Path) -> None:
    sub = FastAPI()
    mine(sub, "/health")
    app.mount("/{tenant}", sub)


def host(app: FastAPI, _: Path) -> None:
    app.host("test", Router([Route("/{rest:path}", own)]))


def frontend(app: FastAPI, folder: Path) -> None:
    app.frontend("/", directory=folder, fallback="index.html")


class Everything(BaseRoute):
    """A kind of route of the application's own, which has no path."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return Match.FULL, {"endpoint": own}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("mine")(scope, receive, send)


def pathless(app: FastAPI, _: Path) -> None:
    app.router.routes.append(Everything())


@pytest.mark.parametrize(
    "covering",
    [parameter, catch_all, included, files, mounted, opaque, tenant, host, frontend, pathless],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("when", ["before", "after", "in the lifespan"])
async def test_what_only_covers_our_paths_goes_behind_them(
    covering: Callable[[FastAPI, Path], None], when: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if covering is frontend and not hasattr(FastAPI, "frontend"):
        pytest.skip("this FastAPI serves no frontends")
    (tmp_path / "index.html").write_text("front page")
    app = FastAPI()
    if when == "before":
        covering(app, tmp_path)
    if when == "in the lifespan":
        app.router.on_startup.append(lambda: covering(app, tmp_path))
    monitor(app)
    if when == "after":
        covering(app, tmp_path)
    caplog.set_level(logging.INFO)
    async with served(app) as client:
        for path in PATHS:
            answer = await client.get(path, headers=TOKEN)
            assert answer.status_code == 200, path
            assert "mine" not in answer.text
            assert answer.headers["cache-control"] == "no-store"
        assert (await client.head("/api/health")).status_code == 200
        assert (await client.get("/api/health/detailed")).status_code == 401
    assert "of its own" not in caplog.text


async def test_an_exact_route_of_the_application_stays_and_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    app = FastAPI()
    monitor(app)
    mine(app, "/api/{x}")
    mine(app, "/api/health/live")
    mine(app, "/api/alerts/mutes", "GET", "POST")
    router = APIRouter(prefix="/api/alerts")
    mine(router, "/test", "POST")
    app.include_router(router)
    app.mount("/api/health", Starlette(routes=[Route("/ready", own)]))
    caplog.set_level(logging.INFO)
    async with served(app) as client:
        assert (await client.get("/api/health/live")).json() == {"mine": "GET /api/health/live"}
        assert (await client.post("/api/alerts/mutes")).json() == {"mine": "POST /api/alerts/mutes"}
        assert (await client.post("/api/alerts/test")).json() == {"mine": "POST /test"}
        assert (await client.get("/api/health/ready")).text == "mine"
        assert (await client.get("/api/health")).json().keys() == {"status", "timestamp", "uptime_seconds"}
        assert (await client.get("/api/alerts/summary", headers=TOKEN)).status_code == 200
        assert (await client.get("/api/other")).json() == {"mine": "GET /api/{x}"}
    (line,) = [record.getMessage() for record in caplog.records if "routes of its own" in record.getMessage()]
    assert line.startswith(
        "The application has routes of its own for GET /api/health/live, GET /api/health/ready, "
        "GET /api/alerts/mutes, POST /api/alerts/mutes, POST /api/alerts/test: "
    )


async def test_a_route_that_comes_or_goes_while_serving_is_asked_anew() -> None:
    app = FastAPI()
    monitor(app)
    async with served(app) as client:
        assert "status" in (await client.get("/api/health")).json()
        mine(app, "/api/health")
        assert (await client.get("/api/health")).json() == {"mine": "GET /api/health"}
        del app.router.routes[-1]
        assert "status" in (await client.get("/api/health")).json()


async def test_one_method_of_a_path_does_not_take_the_others() -> None:
    app = FastAPI()
    monitor(app)
    mine(app, "/api/health", "POST", "DELETE")
    mine(app, "/api/{x}", "PATCH")
    async with served(app) as client:
        assert "status" in (await client.get("/api/health")).json()
        assert (await client.post("/api/health")).json() == {"mine": "POST /api/health"}
        assert (await client.patch("/api/health")).json() == {"mine": "PATCH /api/{x}"}
        assert (await client.put("/api/health")).status_code == 405


async def test_head_goes_with_get() -> None:
    app = FastAPI()
    monitor(app)
    mine(app, "/api/health")
    async with served(app) as client:
        assert (await client.head("/api/health")).status_code == 405, "as without us"
        assert (await client.head("/api/health/live")).status_code == 200


async def test_only_the_host_that_has_a_route_answers_with_it() -> None:
    app = FastAPI()
    monitor(app)
    app.host("shop.example.org", Router([Route("/api/health", own)]))
    async with served(app) as client:
        assert (await client.get("/api/health", headers={"host": "shop.example.org"})).text == "mine"
        assert "status" in (await client.get("/api/health", headers={"host": "other.example.org"})).json()


@pytest.mark.parametrize(
    ("root_path", "paths"),
    [
        ("/api", ["/api/health/live", "/health/live", "/api/api/health/live"]),
        ("/api/", ["/api/health/live"]),
        ("/api/v1", ["/api/v1/health/live", "/api/v1/api/health/live", "/api/health/live"]),
        ("/shop/api", ["/shop/api/health/live", "/health/live", "/shop/api/api/health/live"]),
        ("/shop", ["/shop/api/health/live", "/api/health/live"]),
        ("/apis", ["/apis/api/health/live", "/api/health/live"]),
    ],
)
async def test_a_root_path_that_covers_the_prefix_is_served(root_path: str, paths: list[str]) -> None:
    app = rooted(root_path)
    service = monitor(app)
    mine(app, "/orders/{x}")
    async with served(app) as client:
        for path in paths:
            assert (await client.get(path)).json() == {"status": "alive"}, path
        mutes = paths[0].replace("/health/live", "/alerts/mutes")
        answer = await client.delete(f"{mutes}/high_cpu", headers=TOKEN)
        assert answer.status_code == 404
        assert answer.json() == {"detail": "high_cpu is not muted"}
        assert (await client.get("/orders/1")).json() == {"mine": "GET /orders/{x}"}
        summary = await service.performance_metrics.get_summary()
    assert summary["requests_recorded"] == 1


@pytest.mark.parametrize(
    ("root_path", "paths"),
    [
        ("/v1", ["/v1/api/health/live", "/api/health/live", "/v1/v1/api/health/live"]),
        ("/shop/v1", ["/shop/v1/api/health/live", "/api/health/live"]),
        ("/v1/api", ["/v1/api/health/live", "/health/live"]),
        ("/v1/api/2", ["/v1/api/2/health/live", "/health/live"]),
        ("/shop", ["/shop/v1/api/health/live", "/v1/api/health/live"]),
    ],
)
async def test_a_root_path_that_covers_a_part_of_the_prefix_is_served(root_path: str, paths: list[str]) -> None:
    app = rooted(root_path)
    monitor(app, prefix="/v1/api")
    mine(app, "/health/ready")
    mine(app, "/1/api/health/ready")
    async with served(app) as client:
        for path in paths:
            assert (await client.get(path)).json() == {"status": "alive"}, path
        assert (await client.get("/health/ready")).json() == {"mine": "GET /health/ready"}
        assert (await client.get("/1/api/health/ready")).json() == {"mine": "GET /1/api/health/ready"}


async def test_a_root_path_elsewhere_leaves_the_applications_paths_alone() -> None:
    app = rooted("/shop")
    monitor(app)
    mine(app, "/health/live")
    async with served(app) as client:
        assert (await client.get("/shop/health/live")).json() == {"mine": "GET /health/live"}
        assert (await client.get("/shop/api/health/live")).json() == {"status": "alive"}


async def test_below_a_covering_root_path_an_exact_route_stays_too(caplog: pytest.LogCaptureFixture) -> None:
    app = rooted("/api")
    monitor(app)
    mine(app, "/health")
    caplog.set_level(logging.INFO)
    async with served(app) as client:
        assert (await client.get("/api/health")).json() == {"mine": "GET /health"}
        assert (await client.get("/api/health/live")).json() == {"status": "alive"}
    assert "routes of its own for GET /api/health: " in caplog.text


async def test_mounted_at_the_prefix() -> None:
    app, outer = FastAPI(), Starlette()
    monitor(app)
    mine(app, "/orders")
    outer.router.routes.append(Mount("/api", app))
    async with served(outer) as client:
        assert (await client.get("/api/orders")).json() == {"mine": "GET /orders"}
        assert (await client.get("/api/health/live")).json() == {"status": "alive"}
        assert (await client.get("/api/health")).status_code == 200


async def test_dependencies_of_the_whole_application_do_not_close_the_probes() -> None:
    async def user() -> None:
        raise HTTPException(418, "no user")

    app = FastAPI(dependencies=[Depends(user)])
    monitor(app)
    mine(app, "/orders")
    async with served(app) as client:
        assert (await client.get("/orders")).status_code == 418
        for probe in ("", "/live", "/ready"):
            assert (await client.get(f"/api/health{probe}")).status_code == 200
        assert (await client.get("/api/health/detailed")).status_code == 401
        assert (await client.get("/api/health/detailed", headers=TOKEN)).status_code == 200


async def test_without_a_guard_of_ours_the_application_keeps_its_own() -> None:
    async def user() -> None:
        raise HTTPException(418, "no user")

    app = FastAPI(dependencies=[Depends(user)])
    monitor(app, access="open")
    async with served(app) as client:
        assert (await client.get("/api/health")).status_code == 200
        assert (await client.get("/api/health/detailed")).status_code == 418


async def test_the_admin_dependency_can_be_overridden() -> None:
    async def admin() -> None:
        raise HTTPException(403, "admins only")

    app = FastAPI()
    MonitoringService(None, store="memory", admin=Depends(admin)).instrument(app)
    async with served(app) as client:
        assert (await client.get("/api/health/detailed")).status_code == 403
        app.dependency_overrides[admin] = lambda: None
        assert (await client.get("/api/health/detailed")).status_code == 200


async def test_an_empty_prefix() -> None:
    app = rooted("/shop")
    monitor(app, prefix="")
    mine(app, "/{x}")
    async with served(app) as client:
        for path in ("/health", "/shop/health", "/health/live", "/shop/health/ready"):
            assert "status" in (await client.get(path)).json()
        assert (await client.get("/healthy")).json() == {"mine": "GET /{x}"}


async def test_a_slash_too_many_is_redirected_and_not_counted() -> None:
    app = FastAPI()
    service = monitor(app)
    async with served(app) as client:
        answer = await client.get("/api/health/")
        assert (answer.status_code, answer.headers["location"]) == (307, "http://test/api/health")
        assert (await service.performance_metrics.get_summary())["requests_recorded"] == 0


async def test_what_the_application_answers_is_counted_and_what_we_answer_is_not() -> None:
    app = FastAPI()
    service = monitor(app)
    mine(app, "/api/health")
    async with served(app) as client:
        for path in ("/api/health", "/api/health/live"):
            assert (await client.get(path)).status_code == 200
        await service.performance_metrics.get_summary()
        assert {name: one["call_count"] for name, one in service.performance_metrics.endpoints.items()} == {
            "/api/health": 1
        }


class OfTenants(Route):
    """Asks what middleware has put into the scope."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches(scope) if scope["tenant"] else (Match.NONE, {})


class Tenants:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app({**scope, "tenant": "one"}, receive, send)


@pytest.mark.parametrize("mounts", [False, True], ids=["alone", "mounted in another"])
async def test_routes_that_need_the_applications_middleware_harm_nobody(mounts: bool) -> None:
    app = FastAPI()
    app.router.routes += [OfTenants(path, own) for path in ("/work", "/work/health")]
    app.add_middleware(Tenants)
    monitor(app)
    around, prefix = app, ""
    if mounts:
        around, prefix = FastAPI(), "/shop"
        around.router.lifespan_context = app.router.lifespan_context
        around.router.routes.append(OfTenants("/first", own))
        around.mount(prefix, app)
        around.add_middleware(Tenants)
    async with served(around) as client:
        for path in ("/work", "/work/health"):
            assert (await client.get(prefix + path)).text == "mine"
        for path in ("/api/health", "/api/health/live"):
            assert (await client.get(prefix + path)).status_code == 200


async def test_nothing_else_of_the_application_changes() -> None:
    app = FastAPI(openapi_url="/api/schema.json")
    monitor(app)

    @app.get("/work", name="health")
    async def work(request: Request) -> str:
        return str(request.url_for("health"))

    app.add_middleware(CORSMiddleware, allow_origins=["https://shop.example"], allow_methods=["GET"])
    async with served(app) as client:
        assert (await client.get("/work")).json() == "http://test/work"
        schema = (await client.get("/api/schema.json")).json()
        assert list(schema["paths"]) == ["/work"]
        answer = await client.get("/api/health", headers={"origin": "https://shop.example"})
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        preflight = {"origin": "https://shop.example", "access-control-request-method": "GET"}
        assert (await client.options("/api/health", headers=preflight)).status_code == 200
    assert all(hasattr(route, "path") for route in app.routes)


async def test_that_a_route_stays_is_said_where_the_start_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("otel_monitoring.runtime.start_log._on_stderr", True)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    app = FastAPI()
    monitor(app)
    mine(app, "/api/health")
    async with served(app):
        pass
    kept, start = capsys.readouterr().err.splitlines()
    assert kept.startswith("otel_monitoring: The application has routes of its own for GET /api/health: ")
    assert " is monitored: /api/health is the application's own, details" in start
