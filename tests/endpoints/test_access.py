"""The guard of the private endpoints, those who guess its token, and the pages of other sites."""

from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.middleware.cors import CORSMiddleware

from otel_monitoring import MonitoringService
from otel_monitoring.alerts import AlertManager
from otel_monitoring.endpoints.access import GuessLimit, TokenGuard
from otel_monitoring.endpoints.routes import Doors, create_routes
from otel_monitoring.semconv import WRONG_TOKENS
from tests.waiting import eventually_answered

pytestmark = pytest.mark.anyio

TOKEN = "correct-horse-battery"


class Guarded:
    """An application with one guarded endpoint, and a clock set by hand."""

    def __init__(self) -> None:
        self.now, self.wrong = 1000.0, 0
        guard = TokenGuard(TOKEN, self._count, clock=lambda: self.now)
        self.app = FastAPI(dependencies=[Depends(guard)])

        @self.app.get("/")
        async def answer() -> str:
            return "private"

    def _count(self) -> None:
        self.wrong += 1

    async def get(self, token: str | None, client: str = "203.0.113.9") -> httpx.Response:
        headers = {} if token is None else {"Authorization": token if " " in token else f"Bearer {token}"}
        transport = httpx.ASGITransport(self.app, client=(client, 1234))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            return await http.get("/", headers=headers)


async def test_only_the_token_opens() -> None:
    guarded = Guarded()
    assert (await guarded.get(TOKEN)).status_code == 200
    assert (await guarded.get(f"bearer  {TOKEN} ")).status_code == 200
    for wrong in ("", "x", TOKEN[:-1], f"{TOKEN}x", f"Basic {TOKEN}", f"Bearer, {TOKEN}"):
        assert (await guarded.get(wrong)).status_code == 401
    assert guarded.wrong == 6


@pytest.mark.parametrize("token", ["schlüssel-für-alle", "密码密码密码密码", "with blanks in it"])
async def test_any_token_opens_as_the_bytes_that_clients_send(token: str) -> None:
    app = FastAPI(dependencies=[Depends(TokenGuard(token, lambda: None))])
    app.get("/")(lambda: "private")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        for sent, status in ((token, 200), (token[:-1], 401), (token + "é", 401)):
            answer = await http.get("/", headers={b"authorization": b"Bearer " + sent.encode()})
            assert answer.status_code == status


async def test_a_request_without_a_token_is_no_guess() -> None:
    guarded = Guarded()
    answers = [await guarded.get(None) for _ in range(30)]
    assert {answer.status_code for answer in answers} == {401}
    assert answers[0].headers["www-authenticate"] == "Bearer"
    assert guarded.wrong == 0


async def test_after_twenty_wrong_tokens_a_client_waits_whatever_it_sends_and_no_other_does() -> None:
    guarded = Guarded()
    assert [(await guarded.get("wrong")).status_code for _ in range(22)] == [401] * 20 + [429] * 2
    refused = await guarded.get(TOKEN)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "4")
    assert (await guarded.get(TOKEN, "203.0.113.10")).status_code == 200
    assert guarded.wrong == 23
    guarded.now += 3
    assert (await guarded.get(TOKEN)).status_code == 200
    assert [(await guarded.get("wrong")).status_code for _ in range(2)] == [401, 429]
    guarded.now += 60
    assert [(await guarded.get("wrong")).status_code for _ in range(21)] == [401] * 20 + [429]


async def test_the_addresses_of_one_ipv6_network_are_one_client() -> None:
    guarded = Guarded()
    for number in range(20):
        assert (await guarded.get("wrong", f"2001:db8:1:2::{number:x}")).status_code == 401
    assert (await guarded.get("wrong", "2001:db8:1:2:ffff::1")).status_code == 429
    assert (await guarded.get("wrong", "2001:db8:1:3::1")).status_code == 401


async def test_wrong_tokens_are_told_once_a_minute_without_the_token(caplog: pytest.LogCaptureFixture) -> None:
    guarded = Guarded()
    for second in range(150):
        guarded.now = 1000.0 + second
        await guarded.get("hunter2", "evil\n\x1b[31mhost")
    told = [record.getMessage() for record in caplog.records if record.name == "otel_monitoring"]
    assert [line.split()[3] for line in told] == ["1", "60", "60"]
    assert told[0] == "wrong admin token: 1 times since the last such line, the last one from evil  [31mhost"
    assert "hunter2" not in caplog.text


def test_of_many_clients_the_latest_are_remembered() -> None:
    guesses = GuessLimit(lambda: 0.0)
    for _ in range(20):
        guesses.note("old")
    assert guesses.wait("old") == 3
    for number in range(999):
        guesses.note(str(number))
    assert guesses.wait("old") == 3
    guesses.note("one more")
    assert guesses.wait("old") == 0


async def test_guesses_are_measured_and_raise_a_security_alert() -> None:
    app, manager = FastAPI(), AlertManager(channels=[])
    settings: dict[str, Any] = {"access": "admin", "admin_token": TOKEN, "check_interval": 60}
    monitoring = MonitoringService(None, alert_manager=manager, **settings)
    monitoring.instrument(app)
    await monitoring.start()
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
            for _ in range(60):
                await http.get("/api/health/detailed", headers={"Authorization": "Bearer guess"})
        await monitoring._worker.call(monitoring._parts.alerting.evaluate_now, 10)
        window = monitoring._parts.aggregator.history.recent
        assert sum(value for _, value in window.sums(WRONG_TOKENS)) == 60

        async def fires() -> bool:  # beside what a busy machine may raise
            return ("wrong_admin_token", "security_alert") in {
                (alert["rule"], alert["type"]) for alert in await manager.firing()
            }

        await eventually_answered(fires)
    finally:
        await monitoring.stop()


def of_a_logged_in_browser(request: Request) -> None:
    if request.cookies.get("session") != "ana" and request.headers.get("authorization") != f"Bearer {TOKEN}":
        raise HTTPException(401, "Log in first")


COOKIE = {"cookie": "session=ana"}
BEARER = {"authorization": f"Bearer {TOKEN}"}
BASIC = {"authorization": "Basic YW5hOmE="}
OTHER_SITES = [
    {**COOKIE, "sec-fetch-site": "cross-site", "origin": "https://evil.example"},
    {**COOKIE, "sec-fetch-site": "cross-site"},
    {**COOKIE, "sec-fetch-site": "same-site", "origin": "https://blog.shop.example"},
    {**COOKIE, "sec-fetch-site": ""},
    # Over HTTP no browser sends Sec-Fetch-Site.
    {**COOKIE, "origin": "http://evil.example"},
    {**COOKIE, "origin": "null"},
    {**COOKIE, "origin": ""},
    {**COOKIE, "origin": "http://shop.example.evil.example"},
    {**COOKIE, "origin": "http://shop.example:8080"},
    {**COOKIE, "origin": "http://[::1"},
    {**COOKIE, "origin": "shop.example"},
    # A CORS setting that lets every site in lets them set headers too, but neither of those that say who asks.
    {**COOKIE, **BEARER, "sec-fetch-site": "cross-site", "origin": "https://evil.example"},
    {**COOKIE, **BEARER, "origin": "http://evil.example"},
    # A browser adds Basic credentials by itself.
    {**BASIC, "sec-fetch-site": "cross-site", "origin": "https://evil.example"},
    {**BASIC, "origin": "http://evil.example"},
    {"sec-fetch-site": "cross-site", "origin": "https://evil.example"},
    # Cookies alone do not say who asks.
    COOKIE,
]
WHO_MAY = [
    {**COOKIE, "sec-fetch-site": "same-origin", "origin": "https://shop.example"},
    {**COOKIE, "sec-fetch-site": "same-origin", "origin": "https://behind-a-proxy.example"},
    {**COOKIE, "sec-fetch-site": "none"},
    {**COOKIE, "origin": "http://shop.example"},
    {**COOKIE, "origin": "https://SHOP.example"},
    {**COOKIE, "origin": "https://shop.example:443"},
    BEARER,
    {**COOKIE, **BEARER},
    {**BEARER, "sec-fetch-site": "cross-site", "origin": "https://dashboard.example"},
    {**BEARER, "origin": "http://dashboard.example"},
]


class Monitored:
    """An application that every site may ask, and whose cookies browsers send along."""

    def __init__(self, **settings: Any) -> None:
        self.app, self.manager = FastAPI(), AlertManager(channels=[])
        self.app.add_middleware(
            CORSMiddleware, allow_origin_regex=".*", allow_credentials=True, allow_methods=["*"], allow_headers=["*"]
        )
        service = MonitoringService(None, alert_manager=self.manager, **settings).instrument(self.app)
        endpoints = create_routes(Doors(FastAPI(), service, service.settings, None), service)
        found = [(method, each.path) for each in endpoints for method in each.methods - {"GET", "HEAD"}]
        assert {("POST", "/api/alerts/mutes"), ("POST", "/api/alerts/test")} <= set(found)
        self.changes = [(method, path.replace("{alert_type}", "high_cpu")) for method, path in found]
        """Method and path of every endpoint that changes something."""

    async def answers(self, headers: dict[str, str], media_type: str) -> set[int]:
        """The statuses of all calls that change something."""
        transport, statuses = httpx.ASGITransport(self.app), set()
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as http:
            for method, path in self.changes:
                sent = {**headers, "content-type": media_type}
                answer = await http.request(method, path, content=b'{"type": "high_cpu"}', headers=sent)
                statuses.add(answer.status_code)
            assert (await http.get("/api/alerts/summary", headers=headers)).status_code in {200, 401}
        return statuses

    async def mutes(self) -> int:
        return len((await self.manager.get_alert_summary())["mutes"])


@pytest.fixture(scope="module")
def opened() -> Monitored:
    return Monitored(access="open")


@pytest.fixture(scope="module")
def logged_in() -> Monitored:
    return Monitored(admin=Depends(of_a_logged_in_browser))


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/json", ""])
@pytest.mark.parametrize("headers", OTHER_SITES, ids=str)
async def test_no_other_site_changes_anything(
    headers: dict[str, str], media_type: str, opened: Monitored, logged_in: Monitored
) -> None:
    for service in (opened, logged_in):
        before = await service.mutes()
        assert await service.answers(headers, media_type) == {403}
        assert await service.mutes() == before


@pytest.mark.parametrize("media_type", ["application/json", "text/plain", ""])
@pytest.mark.parametrize("headers", WHO_MAY, ids=str)
async def test_the_own_page_and_who_has_a_token_may_change(
    headers: dict[str, str], media_type: str, logged_in: Monitored
) -> None:
    assert (await logged_in.answers(headers, media_type)).isdisjoint({401, 403})


async def test_where_the_endpoints_are_open_a_program_needs_no_header(opened: Monitored) -> None:
    assert 403 not in await opened.answers({}, "application/x-www-form-urlencoded")
    assert 403 not in await opened.answers(BASIC, "application/json")
