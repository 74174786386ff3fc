"""The page over HTTP: who gets what, under which paths, and how many bytes."""

import gzip
import json
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import PlainTextResponse

from otel_monitoring import MonitoringService
from otel_monitoring.alerts import AlertManager
from tests.asgi import served

pytestmark = pytest.mark.anyio

TOKEN = "correct-horse-battery"
BEARER = {"authorization": f"Bearer {TOKEN}"}


def client(app: Any, base: str = "http://test") -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base)


def application(**settings: Any) -> FastAPI:
    app = FastAPI(title="orders")
    MonitoringService(None, alert_manager=AlertManager(channels=[]), **settings).instrument(app)
    return app


async def test_the_document_is_for_everybody_and_says_nothing() -> None:
    app = application(admin_token=TOKEN)
    async with client(app) as http:
        answer = await http.get("/api/status")
        assert (await http.get("/api/status/update")).status_code == 401
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-encoding"] == "gzip"
    assert "script-src 'nonce-" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert "orders" not in answer.text


@pytest.mark.parametrize(
    ("settings", "headers", "asks"),
    [
        ({"admin_token": TOKEN}, {}, True),
        ({"admin_token": TOKEN}, BEARER, False),  # of a proxy
        ({"access": "open", "admin_token": TOKEN}, {}, False),
        ({"admin": Depends(lambda: None), "admin_token": TOKEN}, {}, False),
        ({}, {}, False),
    ],
)
async def test_the_page_asks_for_the_token_first_where_nothing_else_helps(
    settings: dict[str, Any], headers: dict[str, str], asks: bool
) -> None:
    async with client(application(**settings)) as http:
        text = (await http.get("/api/status", headers=headers)).text
    assert f'<html lang="en" data-door="{"token" if asks else ""}">' in text


async def test_figures_are_for_admins() -> None:
    async with client(application(admin_token=TOKEN)) as http:
        answer = await http.get("/api/status/update", headers=BEARER)
        assert (await http.get(f"/api/status/update?token={TOKEN}")).status_code == 401
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["service"]["name"] == "orders"


async def test_the_dependency_of_the_application_lets_cookies_in() -> None:
    def admin(request: Request) -> None:
        if request.cookies.get("session") != "ana":
            raise HTTPException(403, "Admins only")

    app = application(admin=Depends(admin))
    async with client(app) as http:
        assert (await http.get("/api/status")).status_code == 200
        assert (await http.get("/api/status/update")).json() == {"detail": "Admins only"}
        http.cookies.set("session", "ana")
        assert (await http.get("/api/status/update")).status_code == 200


async def test_nothing_configured_says_what_to_set() -> None:
    async with client(application()) as http:
        assert (await http.get("/api/status")).status_code == 200
        answer = await http.get("/api/status/update")
    assert answer.status_code == 403
    assert "OTEL_MONITORING_ADMIN_TOKEN" in answer.json()["detail"]


async def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_MONITORING_PAGE", "off")
    async with client(application(access="open")) as http:
        assert (await http.get("/api/status")).status_code == 404
        assert (await http.get("/api/status/update")).status_code == 404
        assert (await http.get("/api/health")).status_code == 200


async def test_a_client_that_takes_no_gzip_gets_none() -> None:
    async with client(application(access="open")) as http:
        for path in ("/api/status", "/api/status/update"):
            answer = await http.get(path, headers={"accept-encoding": "identity"})
            assert "content-encoding" not in answer.headers
            assert answer.headers["vary"] == "Accept-Encoding"
            assert len(answer.content) == int(answer.headers["content-length"])


@pytest.mark.parametrize("prefix", ["/ops/watch", ""])
async def test_it_has_the_prefix_of_the_others(prefix: str) -> None:
    async with client(application(access="open", prefix=prefix)) as http:
        assert (await http.get(f"{prefix}/status")).status_code == 200
        assert (await http.get(f"{prefix}/status/update")).status_code == 200


async def test_it_is_there_under_a_root_path_and_in_a_mounted_application() -> None:
    app, outer = application(access="open"), FastAPI()
    outer.mount("/shop", app)
    async with client(outer) as http:
        assert (await http.get("/shop/api/status")).status_code == 200
        assert (await http.get("/shop/api/status/update")).status_code == 200
    transport = httpx.ASGITransport(app, root_path="/gateway")
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        assert (await http.get("/gateway/api/status")).status_code == 200


async def test_a_route_of_the_application_is_kept() -> None:
    app = application(access="open")

    @app.get("/api/status")
    def status() -> PlainTextResponse:
        return PlainTextResponse("theirs")

    async with client(app) as http:
        assert (await http.get("/api/status")).text == "theirs"
        assert (await http.get("/api/status/update")).status_code == 200


async def test_it_is_no_part_of_the_statistics() -> None:
    app = FastAPI()
    monitoring = MonitoringService(None, alert_manager=AlertManager(channels=[]), access="open").instrument(app)
    async with served(app), client(app) as http:
        for path in ("/api/status", "/api/status/update"):
            assert (await http.get(path)).status_code == 200
        summary = await monitoring.performance_metrics.get_summary()
    assert summary["requests_recorded"] == 0


async def test_there_are_two_updates() -> None:
    async with client(application(access="open")) as http:
        found = [
            (await http.get(f"/api/status/update?endpoints={which}")).status_code for which in ("first", "all", "some")
        ]
    assert found == [200, 200, 422]


async def test_a_compressed_update_is_the_same() -> None:
    http = client(application(access="open"))
    async with http, http.stream("GET", "/api/status/update", headers={"accept-encoding": "gzip"}) as answer:
        raw = b"".join([part async for part in answer.aiter_raw()])
    assert json.loads(gzip.decompress(raw))["status"] == "healthy"
