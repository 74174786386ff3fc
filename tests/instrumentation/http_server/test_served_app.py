"""The application that is served is found by its first call, whatever it is part of."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from otel_monitoring.instrumentation.http_server.served_app import when_served
from tests.asgi import served

pytestmark = pytest.mark.anyio

ORIGINAL = FastAPI.__call__


@pytest.fixture
def found() -> Iterator[list[FastAPI]]:
    before = FastAPI.__call__
    seen: list[FastAPI] = []
    stop = when_served(seen.append)
    yield seen
    stop()
    assert FastAPI.__call__ in (before, ORIGINAL)


def app_with_route() -> FastAPI:
    app = FastAPI()
    app.add_api_route("/x", lambda: 1)
    return app


async def test_the_outer_one_by_its_lifespan(found: list[FastAPI]) -> None:
    outer, inner = FastAPI(), app_with_route()
    outer.mount("/inner", inner)
    assert not found
    async with served(outer) as client:
        assert found == [outer]
        assert (await client.get("/inner/x")).json() == 1
    assert found == [outer]


async def test_each_of_several(found: list[FastAPI]) -> None:
    one, other, beside = FastAPI(), FastAPI(), app_with_route()
    around = Starlette(routes=[Mount("/one", one), Mount("/beside", beside)])
    async with served(around) as client, served(other):
        assert found == [other]
        assert (await client.get("/one/x")).status_code == 404
        assert (await client.get("/beside/x")).json() == 1
        assert (await client.get("/beside/x")).json() == 1
    assert found == [other, one, beside]


async def test_one_that_is_served_from_within_another(found: list[FastAPI]) -> None:
    admin = FastAPI()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with served(admin):
            yield

    app = FastAPI(lifespan=lifespan)
    async with served(app):
        assert found == [app, admin]


async def test_without_a_lifespan_by_the_first_request(found: list[FastAPI]) -> None:
    app = app_with_route()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        assert (await client.get("/x")).json() == 1
    assert found == [app]


async def test_inside_of_a_starlette_application(found: list[FastAPI]) -> None:
    app = app_with_route()
    async with served(Starlette(routes=[Mount("/api", app)])) as client:
        assert (await client.get("/api/x")).json() == 1
    assert found == [app]


async def test_a_subclass_with_a_call_of_its_own(found: list[FastAPI]) -> None:
    class Own(FastAPI):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await super().__call__(scope, receive, send)

    app = Own()
    async with served(app):
        assert found == [app]
