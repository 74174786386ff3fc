"""The status page in Debian's Chromium, used as a person uses it, over a real server and a real database.

Every wait is for what the page shows; nothing depends on how long anything takes.
"""

import asyncio
import re
import shutil
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pymongo
import pytest
from fastapi import Cookie, Depends, FastAPI, HTTPException
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright
from starlette.applications import Starlette
from starlette.routing import Mount

from otel_monitoring import MonitoringService
from otel_monitoring.alerts import AlertManager
from otel_monitoring.alerts.store import MemoryStore
from otel_monitoring.metrics.slices.model import FINEST
from otel_monitoring.metrics.slices.recorder import WrittenUpTo
from otel_monitoring.metrics.slices.table import Position
from tests.conftest import unavailable
from tests.health.test_series import row
from tests.integration.servers import Server, nx27017
from tests.status_page.node import node_modules
from tests.threaded_server import ThreadedServer

pytestmark = pytest.mark.integration

TOKEN = "correct-horse-battery"
PATIENCE = 60_000
"""Milliseconds until a test gives up."""
HOSTILE = '<img src=x onerror="window.pwned=1">\'</script><script>window.pwned=1</script>'
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        unavailable("Chromium is missing: install Debian's package chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that has no error and breaks no rule of its policy."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, timezone_id="Europe/Berlin", locale="en-GB")
    context.set_default_timeout(PATIENCE)
    opened = context.new_page()
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("dialog", lambda dialog: wrong.append(dialog.message))
    opened.on("console", lambda line: wrong.append(line.text) if "Content Security Policy" in line.text else None)
    yield opened
    context.close()
    assert wrong == []


class Service:
    """An application with a past of an hour, and its manager."""

    def __init__(self, db: Any = None, **settings: Any) -> None:
        self.app = FastAPI(title="orders", version="2.3.1")
        self.manager = AlertManager(channels=[], store=MemoryStore())
        self.add_past()
        fast = {"sample_interval": 0.5, "check_interval": 0.5, "check_timeout": 2}
        self.monitoring = MonitoringService(db, alert_manager=self.manager, **{**fast, **settings}).instrument(self.app)

        @self.app.get("/orders/{order_id}")
        def read(order_id: str) -> dict[str, str]:
            return {"id": order_id}

        @self.app.get("/invoices/{number}")
        def fail(number: str) -> None:
            raise RuntimeError(f"no paper for {number}")

    def add_past(self) -> None:
        now = time.time()
        written = WrittenUpTo(now - 20, {}, [(now - 7200, "2.3.0"), (now - 1800, "2.3.1")])
        rows = [row(FINEST.slot(now) - 10 * place) for place in range(3, 300)]
        self.manager.store.slices.advance("", Position("one", written.encoded()), rows)


@contextmanager
def serving(app: Any) -> Iterator[ThreadedServer]:
    server = ThreadedServer(app)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def database() -> Iterator[Server]:
    with nx27017() as server:
        yield server


def in_a_loop(work: Coroutine[Any, Any, None]) -> None:
    """Playwright has a loop in the thread of the test."""
    thread = threading.Thread(target=asyncio.run, args=(work,))
    thread.start()
    thread.join()


def log_in(page: Page, url: str, token: str = TOKEN) -> None:
    page.goto(url)
    page.get_by_label("Admin token").fill(token)
    page.get_by_label("Admin token").press("Enter")


def expect_past(page: Page) -> None:
    """The chart of requests has what the slices have."""
    chart = page.get_by_role("slider", name=re.compile("^Requests"))
    expect(chart).to_have_attribute("aria-valuetext", re.compile("highest 4/s at"))


def test_the_token_is_asked_for_before_anything_is_refused(page: Page) -> None:
    refused: list[str] = []
    page.on("response", lambda answer: refused.append(answer.url) if answer.status >= 400 else None)
    with serving(Service(admin_token=TOKEN).app) as server:
        page.goto(f"{server.url}/api/status")
        expect(page.get_by_label("Admin token")).to_be_focused()
        page.evaluate("dispatchEvent(new Event('online'))")
        log_in(page, f"{server.url}/api/status")
        expect(page).to_have_title(re.compile("orders"))
    assert refused == []


def violations(page: Page) -> list[str]:
    """What axe finds, in words."""
    page.evaluate((node_modules() / "axe-core" / "axe.min.js").read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']}).then((result) => result.violations)")
    return [f"{one['id']}: {[node['target'] for node in one['nodes']][:3]}" for one in found]


@pytest.mark.long
def test_a_person_reads_the_verdict_sees_it_turn_and_acts(page: Page, database: Server) -> None:
    client: Any = pymongo.MongoClient(database.uri, serverSelectionTimeoutMS=500)
    client.shop.orders.insert_one({"text": "bread"})
    service = Service(client.shop, admin_token=TOKEN)
    with client, serving(service.app) as server:
        # Open, and be asked: a wrong token is no way in, the right one is.
        url = f"{server.url}/api/status"
        log_in(page, url, "wrong-horse")
        expect(page.get_by_role("alert")).to_contain_text("not the token")
        page.get_by_label("Admin token").fill(TOKEN)
        page.get_by_role("button", name="Show").click()
        verdict = page.locator("#verdict")
        expect(verdict).to_have_text("● Healthy")
        expect(page).to_have_title("● Healthy · orders")
        expect(page.locator("#since")).to_contain_text("since")
        assert page.url == url
        assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]

        # The past is there, and requests appear.
        expect_past(page)
        for _ in range(30):
            assert page.request.get(f"{server.url}/orders/7").ok
        expect(page.get_by_role("button", name="/orders/{order_id}")).to_be_visible()
        raise_in(f"{server.url}/invoices/9")
        errors = page.locator("#errors")
        errors.get_by_text("RuntimeError").click()
        expect(errors.locator("pre")).to_contain_text("no paper for 9")
        assert violations(page) == []

        # The database is killed: verdict, reason, title, alert.
        database.kill()
        expect(verdict).to_have_text("■ Unhealthy")
        expect(page).to_have_title("■ Unhealthy · orders")
        expect(page.locator("#reasons")).to_contain_text("Database is down")
        firing = page.locator("#firing-list > li", has_text="database down")
        expect(firing).to_contain_text("critical")
        icon = page.locator("#icon").get_attribute("href") or ""
        assert "M1.5%201.5" in icon

        # Mute it in place: what it hides is said first, and it can be undone.
        firing.get_by_role("button", name="Mute …").click()
        form = firing.get_by_role("form", name="Mute")
        expect(form).to_contain_text("nobody is notified of database down")
        form.get_by_label("For").select_option("4 hours")
        form.get_by_label("Reason").fill("known")
        form.get_by_label("By").fill("ana")
        form.get_by_role("button", name="Mute", exact=True).click()
        expect(firing).to_contain_text("Muted until")
        expect(page.locator("#mutes-list")).to_contain_text("by ana: known")
        assert violations(page) == []
        firing.get_by_role("button", name="Undo").click()
        expect(page.locator("#mutes")).to_be_hidden()

        # Acknowledge it: the others see who looks into it.
        firing.get_by_role("button", name="Acknowledge …").click()
        form = firing.get_by_role("form", name="Acknowledge")
        expect(form.get_by_label("By")).to_have_value("ana")  # as told before
        form.get_by_label("Reason").fill("restarting it")
        form.get_by_role("button", name="Acknowledge", exact=True).click()
        expect(firing.locator(".acknowledged")).to_contain_text("by ana: restarting it")

        # It comes back.
        database.start()
        expect(verdict).to_have_text("● Healthy")
        expect(firing).to_have_count(0)
        page.locator("#history summary").click()
        expect(page.locator("#alerts-list")).to_contain_text("resolved")


def test_what_is_chosen_is_in_the_url_and_the_back_button_undoes_it(page: Page) -> None:
    service = Service(access="open")
    with serving(service.app) as server:
        for path in ("orders/1", "orders/2", "invoices/3"):
            httpx.get(f"{server.url}/{path}")
        page.goto(f"{server.url}/api/status")
        rows = page.locator("#endpoints-rows > tr")
        expect(rows).to_have_count(2)
        page.get_by_label("Sort by").select_option("errors")
        expect(rows.first).to_contain_text("/invoices/{number}")
        page.get_by_label("Filter").fill("ORDER")
        expect(rows).to_have_count(1)
        page.get_by_role("button", name="/orders/{order_id}").click()
        expect(page.locator("#chosen")).to_contain_text("/orders/{order_id}")
        page.get_by_label("Time shown", exact=True).select_option("15 min")
        expect(page.locator("#charts-about")).to_contain_text("the last 15 min")
        assert "range=15m" in page.url
        assert "endpoint=%2Forders" in page.url

        # A colleague with the link sees the same.
        other = page.context.new_page()
        other.goto(page.url)
        expect(other.locator("#chosen")).to_contain_text("/orders/{order_id}")
        expect(other.get_by_label("Time shown", exact=True)).to_have_value("15m")
        expect(other.get_by_label("Filter")).to_have_value("ORDER")
        other.close()

        page.go_back()
        expect(page.get_by_label("Time shown", exact=True)).to_have_value("1h")
        page.go_back()
        expect(page.locator("#chosen")).to_be_hidden()
        page.get_by_label("Filter").fill("nothing like it")
        expect(page.locator("#endpoints-empty")).to_have_text("No endpoint contains “nothing like it”.")


@pytest.mark.parametrize("status", [200, 503])
def test_a_pause_holds_although_an_update_was_under_way(page: Page, status: int) -> None:
    held: list[Route] = []
    pause = page.get_by_role("button", name="Pause")
    with serving(Service(access="open").app) as server:
        page.goto(f"{server.url}/api/status")
        expect(pause).to_be_visible()
        page.route("**/status/update?*", lambda route: held.append(route))  # Playwright takes no method of a list
        while not held:
            page.wait_for_timeout(10)
        pause.click()
        with page.expect_event("requestfinished"):
            held[0].fulfill(response=held[0].fetch(), status=status)
        page.evaluate("() => new Promise((done) => setTimeout(done))")  # what awaited the answer has gone on
        expect(page.get_by_role("button", name="Resume")).to_be_visible()
        expect(page.locator("#updated")).to_contain_text("paused")


def test_of_many_endpoints_the_page_has_the_first_and_asks_for_the_others(page: Page) -> None:
    service = Service(access="open")

    async def record() -> None:
        for number in range(100):
            for _ in range(200 - number):
                await service.monitoring.performance_metrics.record_request(f"/part-{number:02}", 0.01, 200)

    in_a_loop(record())
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.partition("/update?endpoints=")[2]))
    with serving(service.app) as server:
        page.goto(f"{server.url}/api/status")
        rows, about = page.locator("#endpoints-rows > tr"), page.locator("#endpoints-about")
        expect(about).to_contain_text("100 endpoints")
        expect(rows).to_have_count(20)
        expect(rows.first).to_contain_text("/part-00")
        assert "all" not in asked

        page.get_by_label("Filter").fill("part-99")
        expect(rows).to_have_count(1)
        expect(about).to_contain_text("1 of 100 endpoints")
        page.get_by_label("Filter").fill("")
        page.get_by_role("button", name="Show all 100").click()
        expect(rows).to_have_count(100)
        page.get_by_role("button", name="Show the first 20").click()
        expect(rows).to_have_count(20)
        page.get_by_label("Sort by").select_option("name")
        expect(rows.last).to_contain_text("/part-19")
        assert "all" in asked

        # While it is paused nothing is asked for: what it lacks is said, not left out.
        page.goto(f"{server.url}/api/status")
        expect(rows).to_have_count(20)
        page.get_by_role("button", name="Pause").click()
        page.get_by_label("Filter").fill("part-99")
        expect(about).to_have_text("0 of 100 endpoints. Resume to look at every one")
        expect(page.locator("#endpoints-empty")).to_be_hidden()
        page.get_by_role("button", name="Resume").click()
        expect(rows).to_have_count(1)
        expect(about).to_have_text("1 of 100 endpoints")


def test_charts_speak_and_are_tables(page: Page) -> None:
    service = Service(access="open")
    with serving(service.app) as server:
        page.goto(f"{server.url}/api/status?range=15m")
        chart = page.get_by_role("slider", name=re.compile("^Response times"))
        expect(chart).to_have_attribute("aria-valuetext", re.compile(r"p95 90\d\sms, highest"))
        chart.focus()
        chart.press("Home")
        first = chart.get_attribute("aria-valuetext")
        chart.press("ArrowRight")
        expect(chart).not_to_have_attribute("aria-valuetext", first or "")
        # One cursor: the other charts stand at the same time.
        requests = page.get_by_role("slider", name=re.compile("^Requests"))
        expect(requests).to_have_attribute("aria-valuenow", chart.get_attribute("aria-valuenow") or "")
        page.locator("figure", has=requests).get_by_text("Values").click()
        table = page.get_by_role("region", name="Requests as a table").get_by_role("row")
        answer = page.request.get(f"{server.url}/api/health/series?metric=requests&range=15m").json()
        expect(table).to_have_count(len(answer["points"]) + 1)
        expect(table.filter(has_text="4/s").first).to_be_visible()


def test_a_lost_connection_is_said_and_comes_back(page: Page) -> None:
    service = Service(access="open")
    with serving(service.app) as server:
        page.goto(f"{server.url}/api/status")
        expect(page.locator("#verdict")).to_have_text("● Healthy")
        page.context.set_offline(True)
        expect(page.locator("#lost")).to_contain_text("This device is offline")
        expect(page.locator("#lost")).to_contain_text("These figures are of")
        expect(page.locator("body")).to_have_class(re.compile("old"))
        expect(page.locator("#verdict")).to_have_text("○ Unknown")
        assert violations(page) == []
        page.context.set_offline(False)
        expect(page.locator("#lost")).to_be_hidden()
        expect(page.locator("#verdict")).to_have_text("● Healthy")
        page.get_by_role("button", name="Pause").click()
        expect(page.locator("#updated")).to_contain_text("paused")
        page.get_by_role("button", name="Resume").click()
        expect(page.locator("#updated")).to_contain_text("updated")


@pytest.mark.parametrize(("width", "theme"), [(360, "light"), (768, "dark"), (1920, "dark")])
def test_it_fits_every_screen_and_axe_finds_nothing(browser: Browser, width: int, theme: Any) -> None:
    service = Service(access="open")
    with serving(service.app) as server:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=theme)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        raise_in(f"{server.url}/invoices/3")
        page.goto(f"{server.url}/api/status")
        expect_past(page)
        folded = page.locator("details.card:not([open]) > summary")
        if width < 640:
            expect(folded).to_have_count(6)
            small = page.evaluate(SMALL)
            assert small == []
        while folded.count():
            folded.first.click()
        expect(page.locator("#about-content")).to_contain_text("OTEL_MONITORING_PREFIX")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert violations(page) == []
        context.close()


SMALL = """[...document.querySelectorAll('button, select, input, summary')].filter((one) => one.checkVisibility())
    .map((one) => [one.textContent.trim().slice(0, 20), Math.round(one.getBoundingClientRect().height)])
    .filter(([, height]) => height < 44)"""
"""What a finger would miss."""


@pytest.mark.long
def test_hostile_texts_stay_texts(page: Page) -> None:
    """What an application and its clients can make the service say, really said."""
    service = Service(access="open", environment=HOSTILE, service_version=HOSTILE)
    service.app.title = HOSTILE
    evil = type(HOSTILE, (Exception,), {})
    service.monitoring.add_check(HOSTILE, lambda: 1 / 0)

    @service.app.get(f"/{HOSTILE}")
    def fail() -> None:
        raise evil(HOSTILE)

    async def record() -> None:
        for _ in range(50):
            await service.monitoring.performance_metrics.record_request(f"slow {HOSTILE}", 30.0, error=HOSTILE)
        await service.manager.send_alert("custom", HOSTILE, details={HOSTILE: HOSTILE}, labels={HOSTILE: HOSTILE})

    in_a_loop(record())
    with serving(service.app) as server:
        raise_in(f"{server.url}/{quote(HOSTILE)}")
        mute = {"type": "high_cpu", "labels": {HOSTILE: HOSTILE}, "reason": HOSTILE, "author": HOSTILE}
        assert page.request.post(f"{server.url}/api/alerts/mutes", data=mute).status == 201
        page.goto(f"{server.url}/api/status?{urlencode(dict.fromkeys(('endpoint', 'range', 'sort'), HOSTILE))}")
        for place in ("service", "reasons", "firing-list", "mutes-list", "chosen", "endpoints-rows", "past-problem"):
            expect(page.locator(f"#{place}")).to_contain_text("onerror" if place != "past-problem" else "endpoint")
        expect_only_texts(page)


def test_hostile_texts_in_every_field_stay_texts(page: Page, database: Server) -> None:
    """Every text of every answer is hostile, states too: a state without a word on the page is unknown there."""
    client: Any = pymongo.MongoClient(database.uri)
    with client:
        client.shop.orders.insert_one({"text": "bread"})
        service = Service(client.shop, access="open")
        with serving(service.app) as server:
            raise_in(f"{server.url}/invoices/3")
            page.request.post(f"{server.url}/api/alerts/mutes", data={"type": "high_cpu", "labels": {"a": "b"}})
            in_a_loop(alerted(service.manager))
            page.route(re.compile(r"/api/(status/|health/|alerts/)"), lambda route: spoil(route))
            page.goto(f"{server.url}/api/status")
            expect(page.locator("#collections-rows")).to_contain_text("onerror")
            expect(page).to_have_title(re.compile("○ Unknown"))
            expect(page.locator("#verdict")).to_have_text("○ Unknown")
            expect_only_texts(page)
            page.unroute_all(behavior="ignoreErrors")  # what is under way when the page closes


async def alerted(manager: AlertManager) -> None:
    await manager.send_alert("custom", "a message", labels={"a": "b"})


KEPT = re.compile(r"\d{4}-\d\d-\d\dT.*|\d+|mute-\w+|[0-9a-f]{12}")
"""Times, numbers and identifiers."""


def raise_in(url: str) -> None:
    """Request a route that raises, on a connection of its own: uvicorn closes it after the answer."""
    assert httpx.get(url).status_code >= 400


def spoil(route: Route) -> None:
    """Answer with every text replaced."""
    answer = route.fetch()
    route.fulfill(response=answer, json=spoilt(answer.json()))


def spoilt(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: spoilt(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [spoilt(inner) for inner in value]
    return value if not isinstance(value, str) or key == "metric" or KEPT.fullmatch(value) else HOSTILE


def expect_only_texts(page: Page) -> None:
    """Open all there is to open; nothing of it has become markup or has run."""
    page.locator("#errors-rows summary").first.click()
    expect(page.locator("#errors-rows .stack > *").first).to_be_visible()
    page.locator("#history summary").click()
    expect(page.locator("#alerts-list li", has_text="onerror").first).to_be_visible()
    page.locator("#about summary").click()
    expect(page.locator("#about-content tr").first).to_be_visible()
    assert page.evaluate("window.pwned") is None
    assert page.locator("img, iframe, object, main script, [onerror]").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert violations(page) == []


def test_it_works_behind_a_prefix_a_mount_and_a_cookie(page: Page) -> None:
    def admin(session: str | None = Cookie(None)) -> None:
        if session != "ana":
            raise HTTPException(403, "Sign in first")

    service = Service(admin=Depends(admin), prefix="/ops/v1")
    with serving(
        Starlette(routes=[Mount("/shop", service.app)], lifespan=service.app.router.lifespan_context)
    ) as server:
        page.goto(f"{server.url}/shop/ops/v1/status")
        expect(page.locator("#door")).to_contain_text("Sign in first")
        page.context.add_cookies([{"name": "session", "value": "ana", "url": server.url}])
        page.get_by_role("button", name="Try again").click()
        expect(page.locator("#verdict")).to_have_text("● Healthy")
        expect_past(page)
        page.locator("#history summary").click()
        page.get_by_role("button", name="Mute a type of alert …").click()
        page.get_by_role("form").get_by_role("button", name="Mute", exact=True).click()
        expect(page.locator("#mutes-list")).to_contain_text("database down")
        page.locator("#mutes-list").get_by_role("button", name="Unmute").click()
        expect(page.locator("#mutes")).to_be_hidden()
