"""Slack, webhook and apprise to real HTTP servers: every answer that matters, and no secret anywhere."""

import asyncio
import base64
import json
import logging
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from otel_monitoring.alerts.notify.channels import Channel, http_post
from otel_monitoring.alerts.notify.channels.apprise import AppriseChannel
from otel_monitoring.alerts.notify.channels.slack import SlackChannel
from otel_monitoring.alerts.notify.channels.webhook import WebhookChannel, signature
from otel_monitoring.config.channels import webhook_key
from otel_monitoring.errors import DeliveryError
from tests.integration.authority import Authority
from tests.integration.receivers import ENDLESS, HANG, answer, http
from tests.notifications import NOW, notification, resolved
from tests.ports import free_port

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

SECRET = "whsec_" + base64.b64encode(b"canary-secret-of-thirty-two-byte").decode()


@pytest.fixture(autouse=True)
def _nothing_tells_a_secret(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    yield
    for word in ("canary", SECRET):
        assert word not in caplog.text


def slack(port: int, host: str = "127.0.0.1") -> Channel:
    return SlackChannel(SecretStr(f"http://{host}:{port}/services/T000/B000/canary"))


def webhook(port: int, scheme: str = "http", **options: Any) -> Channel:
    url = SecretStr(f"{scheme}://localhost:{port}/canary?token=canary")
    return WebhookChannel(url, **{"allow_private": True, "secret": SecretStr(SECRET), "clock": lambda: NOW, **options})


def apprise(port: int) -> Channel:
    return AppriseChannel(SecretStr(f"json://user:canary@127.0.0.1:{port}/canary?token=canary"), "apprise-json")


CHANNELS = {"slack": slack, "webhook": webhook, "apprise": apprise}


async def failure(channel: Channel) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await channel.send(notification())
    assert "canary" not in f"{caught.value!r} {caught.value} {channel!r} {vars(channel)!r}"
    assert caught.value.__cause__ is None
    return caught.value


async def test_slack_takes_it() -> None:
    async with http() as receiver:
        await slack(receiver.port).send(notification(resolved()))
    (request,) = receiver.requests
    assert request.line == "POST /services/T000/B000/canary HTTP/1.1"
    assert request.headers["content-type"] == "application/json; charset=utf-8"
    assert request.json()["text"] == "[orders/production] CRITICAL DATABASE_DOWN resolved: Database connection lost"


async def test_the_webhooks_receiver_can_verify_it() -> None:
    async with http() as receiver:
        await webhook(receiver.port).send(notification())
        await webhook(receiver.port, secret=None, clock=lambda: NOW + 60.9).send(notification())
    signed, unsigned = receiver.requests
    assert signed.line == "POST /canary?token=canary HTTP/1.1"
    assert signed.headers["host"] == f"localhost:{receiver.port}"
    assert signed.headers["webhook-id"] == unsigned.headers["webhook-id"] == "notification-1"
    assert (signed.headers["webhook-timestamp"], unsigned.headers["webhook-timestamp"]) == ("1780000000", "1780000060")
    expected = signature(webhook_key(SECRET), "notification-1", "1780000000", signed.body)
    assert signed.headers["webhook-signature"] == expected
    assert "webhook-signature" not in unsigned.headers
    assert signed.body == unsigned.body


async def test_apprise_hands_it_on() -> None:
    async with http() as receiver:
        await apprise(receiver.port).send(notification())
    (request,) = receiver.requests
    sent = request.json()
    assert sent["title"] == "[orders/production] CRITICAL DATABASE_DOWN firing: Database connection lost"
    assert sent["type"] == "failure"
    assert "Runbook: https://runbooks.example.com/database-down" in sent["message"]
    assert base64.b64decode(request.headers["authorization"].removeprefix("Basic ")) == b"user:canary"


@pytest.mark.parametrize(
    ("reply", "retryable", "wait", "ending"),
    [
        (answer("429 Too Many Requests", "", Retry_After="30"), True, 30, "answered 429"),
        (answer("500 Oops", "rollup_error"), True, None, "answered 500 (rollup_error)"),
        (answer("503 Unavailable", "", Retry_After="soon"), True, None, "answered 503"),
        (answer("408 Timeout", ""), True, None, "answered 408"),
        (answer("400 Bad Request", "invalid_payload"), False, None, "answered 400 (invalid_payload)"),
        (answer("404 Not Found", "no_service"), True, None, "answered 404 (no_service)"),
        (answer("404 Not Found", "Cannot POST /canary"), True, None, "answered 404"),
        (answer("403 Forbidden", ""), True, None, "answered 403"),
        (answer("410 Gone", "channel_is_archived"), True, None, "answered 410 (channel_is_archived)"),
        (answer("413 Too Large", ""), False, None, "answered 413"),
        (answer("422 Unprocessable", ""), False, None, "answered 422"),
        (answer("302 Found", "", Location="/canary-elsewhere"), True, None, "answered 302"),
        (answer("307 Redirect", "", Location="/canary-elsewhere"), True, None, "answered 307"),
        (b"nonsense\r\n\r\n", True, None, "illegal status line: bytearray(b'nonsense')"),
        (b"HTTP/1.1 200 OK\r\nContent-Len", True, None, "Server disconnected without sending a response."),
    ],
)
@pytest.mark.parametrize("make", [slack, webhook])
async def test_what_the_receiver_answers_decides_about_trying_again(
    make: Any, reply: bytes, retryable: bool, wait: float | None, ending: str
) -> None:
    async with http(reply) as receiver:
        error = await failure(make(receiver.port))
    assert (error.retryable, error.retry_after) == (retryable, wait)
    assert str(error).endswith(ending)
    assert len(receiver.requests) == 1, "one attempt, no redirect followed"


async def test_a_date_to_try_again_is_understood() -> None:
    until = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=100), usegmt=True)
    async with http(answer("429 Too Many Requests", "", Retry_After=until)) as receiver:
        error = await failure(slack(receiver.port))
    assert error.retry_after is not None
    assert 60 < error.retry_after <= 100


async def test_a_body_without_end_is_not_read() -> None:
    async with http(ENDLESS) as receiver:
        error = await failure(webhook(receiver.port))
    assert (error.retryable, str(error)) == (True, "The webhook answered 500")
    assert receiver.sent < 50_000_000, "what the sockets' buffers take, and no more"


@pytest.mark.parametrize("make", CHANNELS.values(), ids=CHANNELS)
async def test_nobody_listens(make: Any) -> None:
    assert (await failure(make(free_port()))).retryable


@pytest.mark.parametrize("make", [slack, webhook])
async def test_no_answer_in_time(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_post, "TIMEOUT_SECONDS", 0.2)
    async with http(HANG) as receiver:
        error = await failure(make(receiver.port))
    assert error.retryable
    assert str(error).endswith("no answer in time (ReadTimeout)")


@pytest.mark.parametrize("make", CHANNELS.values(), ids=CHANNELS)
async def test_cancelled_it_ends_at_once(make: Any) -> None:
    async with http(HANG) as receiver:
        task = asyncio.create_task(make(receiver.port).send(notification()))
        await receiver.arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("status", ["500 Oops", "404 Not Found"])
async def test_apprise_does_not_say_why_so_it_is_tried_again(status: str) -> None:
    async with http(answer(status, "")) as receiver:
        error = await failure(apprise(receiver.port))
    assert (error.retryable, str(error)) == (True, "apprise-json: apprise could not deliver")


async def test_an_applications_own_requests_are_logged_as_ever(caplog: pytest.LogCaptureFixture) -> None:
    async with http() as receiver, http_post.client() as client:
        await slack(receiver.port).send(notification())
        await client.get(f"http://127.0.0.1:{receiver.port}/own")
    assert [
        record.getMessage() for record in caplog.records if record.name == "httpx" and record.levelno >= logging.INFO
    ] == [f'HTTP Request: GET http://127.0.0.1:{receiver.port}/own "HTTP/1.1 200 OK"']


async def test_a_private_address_is_refused_unless_allowed() -> None:
    async with http() as receiver:
        error = await failure(webhook(receiver.port, allow_private=False))
        assert (error.retryable, receiver.requests) == (True, [])
        assert "ALERT_WEBHOOK_ALLOW_PRIVATE" in str(error)
        await webhook(receiver.port).send(notification())
    assert len(receiver.requests) == 1


async def test_a_name_is_resolved_once_and_what_was_checked_is_what_is_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name server that first tells a public address and then loopback (DNS rebinding) reaches nothing here."""
    answers = ["192.0.2.1", "127.0.0.1"]  # the first stands for a public host: a connection to it ends nowhere
    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: Any, *rest: Any, **options: Any) -> Any:
        if host not in ("rebinding.example.com", b"rebinding.example.com"):
            return real(host, *rest, **options)
        asked.append(host)
        return real(answers[min(len(asked), len(answers)) - 1], *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(
        "otel_monitoring.alerts.notify.channels.public_address.is_public", lambda address: address == "192.0.2.1"
    )
    monkeypatch.setattr(http_post, "TIMEOUT_SECONDS", 0.3)
    async with http() as receiver:
        url = SecretStr(f"http://rebinding.example.com:{receiver.port}/canary")
        error = await failure(WebhookChannel(url))
        assert error.retryable
        assert (len(asked), receiver.requests) == (1, [])
        assert "no public address" in str(await failure(WebhookChannel(url))), "now it says loopback, and is refused"
    assert receiver.requests == []


async def test_a_webhooks_certificate_is_checked_against_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.trusted))
    http_post._tls_context.cache_clear()
    try:
        async with http(tls=authority.server("localhost")) as receiver:
            await webhook(receiver.port, "https").send(notification())
        assert receiver.requests[0].headers["host"] == f"localhost:{receiver.port}"
        async with http(tls=authority.server("127.0.0.1")) as receiver:
            error = await failure(webhook(receiver.port, "https"))
        assert error.retryable
        assert "certificate verify failed" in str(error)
        assert receiver.requests == []
    finally:
        http_post._tls_context.cache_clear()


async def test_all_at_once_from_one_channel() -> None:
    """Channels keep no connection and no state between messages: two loops or two messages do not meet."""
    async with http() as receiver:
        channel = webhook(receiver.port)
        await asyncio.gather(*(channel.send(notification(id=f"n{i}")) for i in range(5)))
    assert {request.headers["webhook-id"] for request in receiver.requests} == {f"n{i}" for i in range(5)}
    assert {json.loads(request.body)["data"]["id"] for request in receiver.requests} == {f"n{i}" for i in range(5)}


@pytest.mark.parametrize("no_proxy", ["127.0.0.0/8", "[::1],127.0.0.1", "fd00::/8, localhost, 127.0.0.1:{port}"])
async def test_a_receiver_that_needs_no_proxy_is_reached_without(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str
) -> None:
    async with http() as receiver:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
        monkeypatch.setenv("NO_PROXY", no_proxy.format(port=receiver.port))
        await slack(receiver.port).send(notification())
    assert len(receiver.requests) == 1


async def test_a_proxy_is_used_and_one_that_cannot_work_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with http() as proxy, http() as receiver:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        await slack(receiver.port).send(notification())
        assert (len(proxy.requests), len(receiver.requests)) == (1, 0)
        monkeypatch.setenv("HTTP_PROXY", "socks://127.0.0.1:1")
        await slack(receiver.port).send(notification())
    assert (len(proxy.requests), len(receiver.requests)) == (1, 1)
