"""Several services in one process: each application gets its own, wherever its code runs."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.routing import Mount

from otel_monitoring import MonitoringService, alerts, get_alert_manager, get_monitoring
from otel_monitoring.alerts import AlertManager, set_alert_manager
from otel_monitoring.runtime.current_service import current_service, within_service
from otel_monitoring.tracing import destination
from tests.asgi import served
from tests.otlp_sink import HttpSink
from tests.threaded_server import ThreadedServer
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


def name() -> str:
    """Whose code this is, as everything that asks finds it."""
    service = get_monitoring()
    assert service is not None
    assert service._app is not None
    assert get_alert_manager() is service.alert_manager
    assert destination.current_destination() is destination._destinations.of_current()
    return service._app.title


class Shop:
    """An application that says everywhere whose it is."""

    def __init__(self, title: str, **settings: Any) -> None:
        self.seen: dict[str, str] = {}
        self.checked = threading.Event()

        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            self.seen["start-up"] = name()
            yield
            self.seen["shutdown"] = name()

        self.app = app = FastAPI(title=title, lifespan=lifespan)

        @app.get("/sync")
        def sync(background: BackgroundTasks) -> str:
            background.add_task(lambda: self.seen.update(background=name()))
            return name()

        @app.get("/async")
        async def soon() -> list[str]:
            return [name(), await asyncio.create_task(self.task()), await asyncio.to_thread(name)]

        @app.websocket("/ws")
        async def socket(websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.send_text(name())
            await websocket.close()

        def check() -> bool:
            self.seen["check"] = name()
            self.checked.set()
            return True

        self.monitoring = MonitoringService(None, access="open", **settings).instrument(app)
        self.monitoring.add_check("mine", check)

    async def task(self) -> str:
        return name()

    async def greeting(self) -> str:
        """What a WebSocket is greeted with."""
        sent: asyncio.Queue[Any] = asyncio.Queue()
        scope = {"type": "websocket", "path": "/ws", "headers": [], "query_string": b"", "subprotocols": []}

        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        await self.app(scope, receive, sent.put)
        messages = [sent.get_nowait() for _ in range(sent.qsize())]
        return next(str(message["text"]) for message in messages if message["type"] == "websocket.send")

    async def assert_all(self, client: httpx.AsyncClient, path: str = "") -> None:
        title = self.app.title
        assert (await client.get(f"{path}/sync")).json() == title
        assert (await client.get(f"{path}/async")).json() == [title] * 3
        assert (await client.get(f"{path}/api/health/live")).status_code == 200


async def test_two_applications_side_by_side() -> None:
    one, other = Shop("one"), Shop("other")
    async with served(one.app) as first, served(other.app) as second:
        for shop, client in ((one, first), (other, second), (one, first)):
            await shop.assert_all(client)
            assert await shop.greeting() == shop.app.title
            assert await asyncio.to_thread(shop.checked.wait, 30)
        assert get_monitoring() is one.monitoring, "elsewhere it is the first"
    for shop in (one, other):
        assert shop.seen == dict.fromkeys(("start-up", "background", "check", "shutdown"), shop.app.title)


async def test_mounted_in_an_outer_application() -> None:
    one, other = Shop("one"), Shop("other")
    async with served(Starlette(routes=[Mount("/one", one.app), Mount("/other", other.app)])) as client:
        for shop in (one, other, one):
            await shop.assert_all(client, f"/{shop.app.title}")


async def test_mounted_in_one_that_is_monitored_too() -> None:
    outer, inner = Shop("outer"), Shop("inner")
    outer.app.mount("/inner", inner.app)
    async with served(outer.app) as client:
        await inner.assert_all(client, "/inner")
        await outer.assert_all(client)


async def test_a_lifespan_that_enters_another_ones() -> None:
    inner, seen = Shop("inner"), []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with inner.app.router.lifespan_context(inner.app):
            seen.append(name())
            yield
            seen.append(name())

    outer = FastAPI(title="outer", lifespan=lifespan)
    MonitoringService(None).instrument(outer)
    async with served(outer):
        assert get_monitoring() is inner.monitoring, "the first"
    assert seen == ["outer", "outer"]
    assert (inner.seen["start-up"], inner.seen["shutdown"]) == ("inner", "inner")


async def asked(shop: Shop, url: str) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        await shop.assert_all(client)


def test_two_servers_in_threads() -> None:
    shops = [Shop("one"), Shop("other")]
    servers = [ThreadedServer(shop.app) for shop in shops]
    for shop, server in zip(shops, servers, strict=True):
        asyncio.run(asked(shop, server.url))
    for server in servers:
        server.stop()
    assert [shop.seen["shutdown"] for shop in shops] == ["one", "other"]


async def test_requests_to_what_nobody_instruments_are_nobodys() -> None:
    one, beside, around = FastAPI(), FastAPI(), FastAPI()
    service = MonitoringService(None, store="memory").instrument(one)
    for app in (one, beside, around):
        app.add_api_route("/orders", lambda: "yes")
    around.mount("/one", one)
    async with served(beside) as other, served(around) as client:
        for who, path in ((other, "/orders"), (other, "/none"), (client, "/orders"), (client, "/one/orders")):
            await who.get(path)
        await service.performance_metrics.get_summary()
    assert {name: found["call_count"] for name, found in service.performance_metrics.endpoints.items()} == {
        "/orders": 1
    }


async def test_log_records_leave_as_the_service_whose_they_are() -> None:
    log = logging.getLogger("test_current.orders")
    with HttpSink() as sink:

        def shop(title: str, endpoint: str | None = sink.endpoint) -> FastAPI:
            app = FastAPI(title=title)
            app.add_api_route("/log", lambda: log.warning("by %s", title))
            MonitoringService(None, service_name=title, otlp_endpoint=endpoint, store="memory").instrument(app)
            return app

        other = shop("other")
        async with served(other) as second:
            async with served(shop("one")) as first, served(shop("silent", None)) as third:
                for client in (first, second, third):
                    await client.get("/log")
                log.warning("by nobody")
            await second.get("/log")
        eventually(lambda: len(sink.records()) >= 4, "they arrive")
        sent = sorted(
            (attribute.value.string_value, record.body.string_value)
            for request in sink.requests
            if request.signal == "logs"
            for resource in request.message.resource_logs
            for attribute in resource.resource.attributes
            if attribute.key == "service.name"
            for scope in resource.scope_logs
            for record in scope.log_records
        )
    assert [one for one in sent if one[1].startswith("by ")] == [
        ("one", "by one"),
        ("other", "by nobody"),
        ("other", "by other"),
        ("other", "by other"),
    ]


def test_each_has_an_alert_manager_of_its_own() -> None:
    one, other = MonitoringService(None), MonitoringService(None, public_url="https://other.example.com")
    for service in (one, other):
        service.instrument(FastAPI())
    assert one.alert_manager is not other.alert_manager
    assert other.alert_manager.settings.public_url == "https://other.example.com"
    assert get_alert_manager() is alerts.initialize_alerts() is one.alert_manager
    with within_service(other):
        assert get_alert_manager() is alerts.initialize_alerts() is other.alert_manager


def test_the_one_that_is_chosen_is_everybodys_but_of_whom_was_given_one() -> None:
    chosen, given = AlertManager(channels=[]), AlertManager(channels=[])
    set_alert_manager(chosen)
    one, other = MonitoringService(None), MonitoringService(None, alert_manager=given)
    assert (one.alert_manager, other.alert_manager, get_alert_manager()) == (chosen, given, chosen)
    with within_service(other):
        assert get_alert_manager() is given


def test_left_in_another_context_it_raises_nothing() -> None:
    service = MonitoringService(None)
    entered = within_service(service)

    async def enter() -> None:
        entered.__enter__()

    asyncio.run(enter())
    entered.__exit__(None, None, None)
    assert current_service.get() is None
