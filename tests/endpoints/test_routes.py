"""What the endpoints do with input from the network: nothing of it is read before the guard, kept or repeated."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import FastAPIError
from fastapi.routing import APIRoute

from otel_monitoring import MonitoringService
from otel_monitoring.alerts import AlertManager
from otel_monitoring.alerts.mute import DEFAULT_MUTE_SECONDS
from otel_monitoring.endpoints.bodies import FIELDS
from otel_monitoring.instrumentation.http_server.own_routes import OwnRoutes

pytestmark = pytest.mark.anyio

MUTES = "/api/alerts/mutes"
TOKEN = "correct-horse-battery"
SECRET = "hunter2-attacker"


def application(**settings: Any) -> tuple[FastAPI, AlertManager]:
    app, manager = FastAPI(), AlertManager(channels=[])
    MonitoringService(None, alert_manager=manager, **settings).instrument(app)
    return app, manager


def refuse() -> None:
    raise HTTPException(401, "who are you?")


class NoForm:
    """Of a parameter that no request can have."""


def unusable(how: NoForm) -> None: ...


def test_a_guard_that_fastapi_cannot_use_is_refused_at_the_start() -> None:
    with pytest.raises(FastAPIError, match="NoForm"):
        application(admin=Depends(unusable))


async def test_a_route_is_made_with_its_first_request() -> None:
    app, _ = application(access="open")
    own = next(route for route in app.router.routes if isinstance(route, OwnRoutes))

    def made() -> set[str]:
        return {each.path for each in own._endpoints if "route" in vars(each)}

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        assert (await client.get("/orders")).status_code == 404
        assert made() == set()
        for _ in range(2):
            assert (await client.get("/api/health/live")).status_code == 200
        assert made() == {"/api/health/live"}
        answer = await client.put("/api/alerts/mutes")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


class Body(httpx.AsyncByteStream):
    """A body that counts what was read of it."""

    def __init__(self, chunk: bytes, times: int = 1) -> None:
        self._chunk, self._times, self.read = chunk, times, 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(self._times):
            self.read += len(self._chunk)
            yield self._chunk


async def post(app: FastAPI, content: Body | bytes, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        return await client.post(MUTES, content=content, headers={"content-type": "application/json", **headers})


@pytest.mark.parametrize(
    "settings",
    [{"access": "admin", "admin_token": TOKEN}, {"access": "admin"}, {"admin": Depends(refuse)}],
    ids=["token", "no token", "the application's guard"],
)
async def test_the_guard_is_asked_before_the_body_is_read(settings: dict[str, Any]) -> None:
    app, _ = application(**settings)
    body = Body(b"{" * 1000)
    assert (await post(app, body)).status_code in {401, 403}
    assert body.read == 0


async def test_no_more_of_a_body_is_read_than_it_may_have() -> None:
    app, manager = application(access="open")
    body = Body(b" " * 16_384, 20_000)
    answer = await post(app, body)
    assert answer.status_code == 413
    assert "65536 bytes" in answer.json()["detail"]
    assert body.read <= 5 * 16_384
    assert (await manager.get_alert_summary())["mutes"] == []


BODIES: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"type=" + SECRET.encode(),
    "not UTF-8": b'{"type": "\xff%s"}' % SECRET.encode(),
    "NaN": b'{"type": "high_cpu", "duration_seconds": NaN}',
    "Infinity": b'{"type": "high_cpu", "duration_seconds": Infinity}',
    "-Infinity": b'{"type": "high_cpu", "duration_seconds": -Infinity}',
    "beyond floats": b'{"type": "high_cpu", "duration_seconds": 1e999}',
    "a yes as seconds": b'{"type": "high_cpu", "duration_seconds": true}',
    "a text as seconds": b'{"type": "high_cpu", "duration_seconds": "60"}',
    "long number": b'{"type": "high_cpu", "duration_seconds": %s}' % (b"9" * 5000),
    "beyond the calendar": b'{"type": "high_cpu", "duration_seconds": 1e12}',
    "surrogate": b'{"type": "high_cpu", "reason": "\\ud800 %s"}' % SECRET.encode(),
    "surrogate as label": b'{"type": "high_cpu", "labels": {"\\udfff": "x"}}',
    "deep": b'{"type": "high_cpu", "labels": ' + b"[" * 30_000,
    "deep and closed": b'{"type": "high_cpu", "labels": %s%s}' % (b'{"a":' * 5_000, b"1" + b"}" * 5_000),
    "unknown field": json.dumps({"type": "high_cpu", SECRET: SECRET}).encode(),
    "unknown type": json.dumps({"type": SECRET}).encode(),
    "label of another type": json.dumps({"type": "high_cpu", "labels": {SECRET: [SECRET]}}).encode(),
    "too many labels": json.dumps({"type": "high_cpu", "labels": {f"{SECRET}{n}": "x" for n in range(21)}}).encode(),
    "a list": json.dumps([SECRET]).encode(),
    "null": b"null",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_malformed_input_is_refused_and_not_repeated(body: bytes) -> None:
    app, manager = application(access="open")
    answer = await post(app, body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0].keys() == {"type", "loc", "msg"}
    assert SECRET not in answer.text
    assert (await manager.get_alert_summary())["mutes"] == []


@pytest.mark.parametrize(
    ("method", "path", "field"),
    [
        ("GET", f"/api/alerts/history?limit={SECRET}", "limit"),
        ("GET", "/api/alerts/history?limit=NaN", "limit"),
        ("GET", f"/api/alerts/history?severity={SECRET}%ED%A0%80", "severity"),
        ("GET", f"/api/alerts/history?alert_type=%00{SECRET}", "alert_type"),
        ("DELETE", f"/api/alerts/mutes/{SECRET}", "name"),
    ],
)
async def test_a_wrong_parameter_is_named_and_not_repeated(method: str, path: str, field: str) -> None:
    app, _ = application(access="open")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answer = await client.request(method, path)
    assert answer.status_code == 422
    assert [error["loc"][-1] for error in answer.json()["detail"]] == [field]
    assert SECRET not in answer.text


def test_every_parameter_may_be_named() -> None:
    app, _ = application(access="open")
    own = next(route for route in app.router.routes if isinstance(route, OwnRoutes))
    routes = [each.route for each in own._endpoints]
    wanted: list[Dependant] = [route.dependant for route in routes if isinstance(route, APIRoute)]
    names = {param.alias for one in wanted for param in (*one.query_params, *one.path_params)}
    assert {"name", "endpoints"} <= names
    assert names <= FIELDS


async def test_mutes_by_rule_and_labels_are_listed_and_ended() -> None:
    app, _ = application(access="open")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        made = await client.post(MUTES, json={"rule": "high_cpu", "labels": {"scope": "host"}, "author": "ana"})
        assert (made.status_code, made.json()["duration_seconds"]) == (201, DEFAULT_MUTE_SECONDS)
        assert (await client.post(MUTES, json={"type": "order_stuck"})).status_code == 201
        listed = (await client.get(MUTES)).json()
        assert [(mute["type"], mute["rule"], mute["labels"]) for mute in listed] == [
            (None, "high_cpu", {"scope": "host"}),
            ("order_stuck", None, {}),
        ]
        assert (await client.delete(f"{MUTES}/{listed[0]['id']}")).status_code == 204
        assert (await client.delete(f"{MUTES}/order_stuck")).status_code == 204
        assert (await client.delete(f"{MUTES}/{listed[0]['id']}")).status_code == 404
        assert (await client.get(MUTES)).json() == []


WINDOWS = "/api/alerts/maintenance"


async def test_windows_are_planned_listed_and_removed() -> None:
    app, manager = application(access="open")
    manager.clock = lambda: 1_700_000_000.0  # Tuesday 2023-11-14, 22:13:20 UTC
    bodies: list[dict[str, Any]] = [
        {"from": "2023-11-14T22:00:00Z", "to": "2023-11-14T23:00:00Z", "author": "ana", "reason": "new disks"},
        {"weekly": {"days": "sun", "from": "02:00", "to": "04:00"}, "timezone": "Europe/Berlin", "rule": "high_cpu"},
        {"from": "2023-11-20T22:00", "to": "2023-11-20T23:00", "timezone": "Europe/Berlin", "type": "custom"},
    ]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        made = [(await client.post(WINDOWS, json=body)).json() for body in bodies]
        listed = (await client.get(WINDOWS)).json()
        assert listed == made
        assert [(one["open"], one["opens"], one["closes"]) for one in listed] == [
            (True, "2023-11-14T22:00:00.000+00:00", "2023-11-14T23:00:00.000+00:00"),
            (False, "2023-11-19T01:00:00.000+00:00", "2023-11-19T03:00:00.000+00:00"),
            (False, "2023-11-20T21:00:00.000+00:00", "2023-11-20T22:00:00.000+00:00"),
        ]
        assert (await client.get("/api/alerts/summary")).json()["maintenance"] == listed
        assert (await client.get(MUTES)).json() == [], "a window is no mute"
        assert not await manager.send_alert("billing_failure", "recorded only")
        assert (await client.post(WINDOWS, json=bodies[0])).json()["id"] == made[0]["id"], "it is the same window"
        paths = [f"{WINDOWS}/{one['id']}" for one in made]
        assert [(await client.delete(path)).status_code for path in (*paths, paths[0])] == [204, 204, 204, 404]
        assert (await client.delete(f"{WINDOWS}/{SECRET}")).json()["detail"][0]["loc"] == ["path", "name"]
        assert await manager.send_alert("billing_failure", "told")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "from"),
        ({"from": "2099-01-01T00:00:00Z"}, "to"),
        ({"from": "2099-01-02T00:00:00Z", "to": "2099-01-01T00:00:00Z"}, "to"),
        ({"from": "2001-01-02T00:00:00Z", "to": "2001-01-03T00:00:00Z"}, "to"),
        ({"from": "tomorrow", "to": "2099-01-01T00:00:00Z"}, "from"),
        ({"from": "2099-01-01T00:00", "to": "2099-01-02T00:00", "timezone": "Mars"}, "timezone"),
        ({"from": "2099-01-01T00:00Z", "to": "2099-01-02T00:00Z", "timezone": "Mars"}, "timezone"),
        ({"from": "9999-12-31T23:59:59Z", "to": "9999-12-31T23:59:59.5Z"}, "from"),
        ({"weekly": {"days": ["someday"], "from": "02:00", "to": "04:00"}}, "days"),
        ({"weekly": {"days": ["sun"], "from": "2 am", "to": "04:00"}}, "from"),
        ({"weekly": {"days": ["sun"], "from": "02:00"}}, "to"),
        ({"weekly": {"days": [], "from": "02:00", "to": "04:00"}}, "days"),
        ({"weekly": {"days": "", "from": "02:00", "to": "04:00"}}, "days"),
        ({"weekly": {"days": ["sun"], "from": "02:00", "to": "04:00"}, "timezone": "../etc"}, "timezone"),
        ({"weekly": {"days": ["sun"], "from": "02:00", "to": "04:00"}, "from": "2099-01-01T00:00:00Z"}, "weekly"),
        ({"from": "2099-01-01T00:00:00Z", "to": "2099-01-02T00:00:00Z", "type": "databse_down"}, "type"),
    ],
)
async def test_a_window_that_cannot_be_is_refused_by_field(body: dict[str, Any], field: str) -> None:
    app, manager = application(access="open")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answer = await client.post(WINDOWS, json=body)
    assert answer.status_code == 422, answer.text
    assert field in answer.json()["detail"][0]["loc"], answer.text
    assert await manager.get_maintenance() == []


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        (MUTES, {"type": "custom", "duration": 60}, "No such field; did you mean duration_seconds?: there are type, "),
        (MUTES, {"rule": "high_cpu", SECRET: 1}, "No such field: there are type, rule, duration_seconds, "),
        (WINDOWS, {"weekly": {"day": "sun", "from": "02:00", "to": "04:00"}}, "No such field; did you mean days?"),
        (WINDOWS, {"start": "2099-01-01T00:00:00Z"}, "No such field: there are from, to, weekly, "),
        (
            "/api/alerts/0123456789abcdef/acknowledge",
            {"authr": "ana"},
            "did you mean author?: there are reason, author",
        ),
    ],
)
async def test_who_sends_a_field_that_there_is_not_is_told_those_there_are(
    path: str, body: dict[str, Any], says: str
) -> None:
    app, _ = application(access="open")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answer = await client.post(path, json=body)
    assert answer.status_code == 422
    assert any(says in each["msg"] for each in answer.json()["detail"]), answer.text
    assert SECRET not in answer.text


async def test_an_alert_is_acknowledged_by_its_incident_and_that_is_taken_back() -> None:
    app, manager = application(access="open")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        await client.get(MUTES)  # the first request starts the service, which has a store of its own
        await manager.send_alert("billing_failure", "7 failed")
        (event,) = await manager.get_alert_history()
        path = f"/api/alerts/{event['incident']}/acknowledge"
        done = await client.post(path, json={"author": "ana", "reason": "on it"})
        assert (done.status_code, done.json()["author"], done.json()["incident"]) == (201, "ana", event["incident"])
        assert (await client.post(path)).status_code == 201, "who and why may be missing"
        assert (await client.post(path, json={"who": "ana"})).status_code == 422
        assert (await client.post(path, json={"reason": "x" * 501})).json()["detail"][0]["loc"] == ["body", "reason"]
        assert (await client.post("/api/alerts/0123456789abcdef/acknowledge")).status_code == 404
        assert (await client.post(f"/api/alerts/{SECRET}/acknowledge")).json()["detail"][0]["loc"] == [
            "path",
            "incident",
        ]
        assert [(await client.delete(path)).status_code for _ in range(2)] == [204, 404]


@pytest.mark.parametrize(
    ("body", "field", "why"),
    [
        ({"type": "databse_down"}, "type", "did you mean database_down"),
        ({"rule": "high_cpuu"}, "rule", "did you mean high_cpu"),
        ({"author": "ana"}, "type", "name a type, a rule or labels"),
    ],
)
async def test_a_mute_of_no_alert_is_refused_by_field(body: dict[str, str], field: str, why: str) -> None:
    app, _ = application(access="open")
    answer = await post(app, json.dumps(body).encode())
    (problem,) = answer.json()["detail"]
    assert (answer.status_code, problem["loc"]) == (422, ["body", field])
    assert why in problem["msg"]


@pytest.mark.slow
async def test_beyond_the_limit_of_mutes_the_answer_is_conflict() -> None:
    app, manager = application(access="open")
    for number in range(1000):
        manager.mute_alert_type("api_timeout", labels={"endpoint": f"/{number}"})
    answer = await post(app, b'{"type": "high_cpu"}')
    assert (answer.status_code, "1000 are in force" in answer.text) == (409, True)
    assert manager.unmute_alert_type("api_timeout", labels={"endpoint": "/5"})
    assert (await post(app, b'{"type": "high_cpu"}')).status_code == 201
