"""What the user chose by variables: excluded URLs and captured headers, the same in every engine."""

import re
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI, WebSocket
from fastapi.responses import PlainTextResponse
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from starlette.responses import Response
from websockets.sync.client import connect

from otel_monitoring.instrumentation.http_server.headers import CapturedHeaders
from tests.conformance.application import Gates
from tests.conformance.observed import ACTIVE, Observed

pytestmark = pytest.mark.anyio


def shop() -> FastAPI:
    app = FastAPI()

    @app.get("/{rest:path}")
    async def answer(rest: str) -> Response:
        if rest.endswith("raise"):
            raise ValueError(rest)
        return PlainTextResponse(
            rest, headers={"X-Answer": "yes", "Set-Cookie": "a=b", "X-Odd": "\xff\\x"}, status_code=200
        )

    @app.websocket("/ws/{rest}")
    async def socket(websocket: WebSocket, rest: str) -> None:
        await websocket.accept(headers=[(b"x-answer", b"socket")])
        await websocket.close()

    return app


async def get(app: FastAPI, *paths: str, host: str = "test", headers: Any = None) -> None:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
        for path in paths:
            await client.get(path, headers=headers)


def observe(engine: str, app: FastAPI, expressions: str = "", **options: Any) -> Observed:
    if expressions:
        options["excluded_url"] = re.compile(expressions).search
    return Observed(engine, app, Gates(), **options)


def names(observed: Observed) -> list[str]:
    return [str((span.attributes or {}).get("url.path")) for span in observed.spans.get_finished_spans()]


async def test_an_excluded_url_leaves_nothing(engine: str) -> None:
    app = shop()
    observed = observe(engine, app, "client/.*/info|^/healthcheck$|raise")
    await get(app, "/client/7/info", "/healthcheck", "/raise", "/healthchecks", "/client/info")
    assert names(observed) == ["/healthchecks", "/client/info"]
    assert observed.total() == 2
    assert observed.points(ACTIVE)[0][1] == 0
    assert observed.errors == []
    assert not observed.logs.get_finished_logs()


@pytest.mark.parametrize("expressions", ["health", "test", "http", "^/test"])
async def test_the_host_the_scheme_and_the_query_exclude_nothing(engine: str, expressions: str) -> None:
    app = shop()
    observed = observe(engine, app, expressions)
    await get(app, "/orders?health=test", host="health.test")
    assert names(observed) == ["/orders"]
    assert observed.total() == 1


async def test_contrib_told_in_code_matches_the_path_alone_too() -> None:
    app = shop()
    FastAPIInstrumentor.instrument_app(app, excluded_urls="internal")
    observed = observe("contrib", app, "health", applied=True)
    await get(app, "/internal/x", "/health", "/orders", host="internal.test")
    # As contrib has it: what is said in code counts, in place of the environment.
    assert {a.get("http.route"): n for a, n in observed.points()} == {"/{rest}": 2}


def test_excluded_sockets_leave_nothing(engine: str) -> None:
    observed = observe(engine, shop(), "ws/secret")
    observed.serve()
    for path in ("/ws/secret", "/ws/open"):
        with connect(f"ws://127.0.0.1:{observed.port}{path}"):
            pass
    observed.stop()
    assert observed.span().name == "WS /ws/{rest}"


HEADERS = CapturedHeaders(["X-.*", "authorization"], ["x-.*", "SET-cookie"], ["auth", ".*token.*", "set-cookie"])


async def test_headers_are_captured_as_contrib_does(engine: str) -> None:
    app = shop()
    observed = observe(engine, app, headers=HEADERS)
    sent = [("x-Shop", "one"), ("X-SHOP", "two"), ("X-Token", "secret"), ("Authorization", "secret"), ("Y-Other", "no")]
    await get(app, "/orders", headers=sent)
    attributes = dict(observed.span().attributes or {})
    assert {name: list(cast("tuple[str, ...]", attributes[name])) for name in attributes if ".header." in name} == {
        "http.request.header.x_shop": ["one", "two"],
        "http.request.header.x_token": ["[REDACTED]"],
        "http.request.header.authorization": ["[REDACTED]"],
        "http.response.header.x_answer": ["yes"],
        "http.response.header.x_odd": ["\xff\\x"],
        "http.response.header.set_cookie": ["[REDACTED]"],
    }
    assert not any(".header." in name for point, _ in observed.points() for name in point)


def test_headers_of_sockets_are_captured(engine: str) -> None:
    observed = observe(engine, shop(), headers=HEADERS)
    observed.serve()
    with connect(f"ws://127.0.0.1:{observed.port}/ws/x", additional_headers={"X-Shop": "one"}):
        pass
    observed.stop()
    attributes = dict(observed.span().attributes or {})
    assert attributes["http.request.header.x_shop"] == ("one",)
    assert attributes["http.response.header.x_answer"] == ("socket",)


async def test_contrib_told_in_code_captures_its_own_headers() -> None:
    app = shop()
    FastAPIInstrumentor.instrument_app(
        app,
        http_capture_headers_server_request=["x-b"],
        http_capture_headers_sanitize_fields=["x-b"],
        tracer_provider=(tracers := Observed("contrib", shop(), Gates())).instrumentation.tracer_provider,
    )
    observe("contrib", app, headers=CapturedHeaders(["x-a"], ["x-answer"]), applied=True)
    await get(app, "/orders", headers={"X-A": "1", "X-B": "2"})
    attributes = dict(tracers.span().attributes or {})
    assert {name: attributes[name] for name in attributes if ".header." in name} == {
        "http.request.header.x_b": ("[REDACTED]",),
        "http.response.header.x_answer": ("yes",),
    }


@pytest.mark.parametrize("applied", [True, False])
async def test_without_a_recorded_span_nobody_is_given_headers(engine: str, applied: bool) -> None:
    app = shop()
    observed = observe(engine, app, "" if applied else "orders", headers=HEADERS, tracing=not applied)
    outer = observed.instrumentation.tracer_provider.get_tracer("caller")
    with outer.start_as_current_span("caller"):
        await get(app, "/orders", headers={"X-Shop": "one"})
    caller = next(s for s in observed.spans.get_finished_spans() if s.name == "caller")
    assert not any(".header." in name for name in caller.attributes or {})
