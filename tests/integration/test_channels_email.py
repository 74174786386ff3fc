"""E-mail to real SMTP servers: encrypted, authenticated, refusing, slow."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from otel_monitoring.alerts.notify.channels import text
from otel_monitoring.alerts.notify.channels.email import EmailChannel, MailServer
from otel_monitoring.errors import DeliveryError
from tests.integration.authority import Authority
from tests.integration.receivers import Mailbox, smtp
from tests.notifications import event, notification, resolved
from tests.ports import free_port

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

PASSWORD = SecretStr("canary-password")
OPS, BOSS = "ops@example.com", "boss@example.com"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """As a user with an authority of their own does it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.trusted))
    return authority


@pytest.fixture(autouse=True)
def _nothing_tells_the_password(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)  # the test's own server
    yield
    assert "canary" not in caplog.text


def channel(box: Mailbox, **server: object) -> EmailChannel:
    given = {"host": "localhost", "port": box.port, **server}
    return EmailChannel(MailServer(**given), "Alerts <alerts@example.com>", (OPS, f"Boss <{BOSS}>"))  # type: ignore[arg-type] # test's shorthand


async def failure(sender: EmailChannel) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await sender.send(notification())
    assert "canary" not in f"{caught.value!r} {caught.value}"
    return caught.value


async def test_starttls_with_login(trusted: Authority) -> None:
    async with smtp(Mailbox(), starttls=trusted.server("localhost"), login=True) as box:
        await channel(box, password=PASSWORD).send(notification())
    assert box.envelopes == [("alerts@example.com", [OPS, BOSS], True)]
    assert box.logins == [(b"alerts@example.com", b"canary-password")]
    assert box.mails[0]["Subject"] == "[orders/production] CRITICAL DATABASE_DOWN firing (endpoint=/api/orders/)"
    body = box.mails[0].get_body(("html",))
    assert body is not None
    assert "Database connection lost" in body.get_content()


async def test_implicit_tls_with_a_user_of_another_name(trusted: Authority) -> None:
    async with smtp(Mailbox(), tls=trusted.server("localhost"), login=True) as box:
        await channel(box, security="tls", username="apikey", password=PASSWORD).send(notification())
    assert box.envelopes[0][2]
    assert box.logins == [(b"apikey", b"canary-password")]


async def test_a_server_without_starttls_gets_neither_mail_nor_password() -> None:
    async with smtp(Mailbox(), login=True) as box:
        error = await failure(channel(box, password=PASSWORD))
    assert (error.retryable, str(error)) == (True, "e-mail: SMTP STARTTLS extension not supported by server.")
    assert (box.mails, box.logins) == ([], [])


async def test_in_clear_only_by_explicit_choice() -> None:
    async with smtp(Mailbox()) as box:
        await channel(box, security="none").send(notification())
    assert box.envelopes == [("alerts@example.com", [OPS, BOSS], False)]


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("reason", ["an authority nobody knows", "another name"])
async def test_a_certificate_that_does_not_verify_gets_nothing(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, security: str, reason: str
) -> None:
    other = Authority(tmp_path) if "authority" in reason else authority
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.trusted))
    context = other.server("localhost" if "authority" in reason else "mail.example.com")
    server = smtp(Mailbox(), tls=context, login=True) if security == "tls" else smtp(Mailbox(), starttls=context)
    async with server as box:
        error = await failure(channel(box, security=security, password=PASSWORD))
    assert error.retryable
    assert "certificate verify failed" in str(error)
    assert (box.mails, box.logins) == ([], [])


async def test_a_refused_login_may_be_put_right(trusted: Authority) -> None:
    box = Mailbox(replies={"AUTH": "535 5.7.8 canary-password is wrong"})
    async with smtp(box, starttls=trusted.server("localhost"), login=True):
        error = await failure(channel(box, password=PASSWORD))
    assert (error.retryable, str(error)) == (True, "e-mail: the server refused the login (535)")
    assert box.mails == []


@pytest.mark.parametrize(
    ("replies", "retryable", "message"),
    [
        ({OPS: "450 greylisted", BOSS: "450 greylisted"}, True, "e-mail: every recipient was refused (450)"),
        ({OPS: "550 no such user", BOSS: "550 no such user"}, True, "e-mail: every recipient was refused (550)"),
        ({OPS: "550 no such user", BOSS: "450 later"}, True, "e-mail: every recipient was refused (450, 550)"),
        ({"DATA": "451 local error"}, True, "e-mail: 451 local error"),
        ({"DATA": "554 looks like spam"}, False, "e-mail: 554 looks like spam"),
        ({"DATA": "552 too large"}, False, "e-mail: 552 too large"),
        ({"DATA": "550 policy"}, True, "e-mail: 550 policy"),
        ({"MAIL": "452 full"}, True, "e-mail: 452 full"),
        ({"MAIL": "552 too large"}, False, "e-mail: 552 too large"),
        ({"MAIL": "554 your address is on a list"}, True, "e-mail: 554 your address is on a list"),
        ({"MAIL": "553 not your address: alerts@example.com"}, True, "e-mail: 553 not your address: [REDACTED]"),
    ],
)
async def test_what_the_server_says_decides_about_trying_again(
    replies: dict[str, str], retryable: bool, message: str
) -> None:
    async with smtp(Mailbox(replies=replies)) as box:
        error = await failure(channel(box, security="none"))
    assert (error.retryable, str(error)) == (retryable, message)
    assert box.mails == []


async def test_delivered_to_some_is_delivered_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with smtp(Mailbox(replies={BOSS: "550 no such user"})) as box:
        await channel(box, security="none").send(notification())
    assert box.envelopes[0][1] == [OPS]
    warnings = [r.getMessage() for r in caplog.records if r.name == "otel_monitoring"]
    assert warnings == ["e-mail: 1 of 2 recipients refused (550)"]


async def test_who_is_refused_for_now_gets_it_later_and_the_others_get_it_once() -> None:
    box = Mailbox(replies={BOSS: "450 greylisted"})
    async with smtp(box):
        sender = channel(box, security="none")
        error = await failure(sender)
        assert (error.retryable, error.partly, str(error)) == (True, True, "e-mail: 1 of 2 recipients refused (450)")
        assert [to for _, to, _ in box.envelopes] == [[OPS]]
        box.replies.clear()
        await sender.send(notification())
        await sender.send(notification(id="next"))
    assert [to for _, to, _ in box.envelopes] == [[OPS], [BOSS], [OPS, BOSS]]
    assert box.mails[0]["Message-ID"] == box.mails[1]["Message-ID"]


async def test_who_is_refused_for_good_is_not_asked_again_for_the_sake_of_another() -> None:
    box = Mailbox(replies={OPS: "550 no such user", BOSS: "450 greylisted", "third@example.com": "250 OK"})
    async with smtp(box):
        server = MailServer("localhost", box.port, security="none")
        sender = EmailChannel(server, "alerts@example.com", (OPS, BOSS, "third@example.com"))
        assert (await failure(sender)).partly
        box.replies.clear()
        await sender.send(notification())
    assert [to for _, to, _ in box.envelopes] == [["third@example.com"], [BOSS]]


async def test_one_who_is_refused_again_holds_up_nobody_and_is_given_up_when_that_is_for_good() -> None:
    box = Mailbox(replies={BOSS: "450 greylisted"})
    async with smtp(box):
        sender = channel(box, security="none")
        assert [(await failure(sender)).partly for _ in range(2)] == [True, True]
        box.replies[BOSS] = "550 no such user"
        await sender.send(notification())
    assert [to for _, to, _ in box.envelopes] == [[OPS]]


async def test_a_domain_in_another_script_is_written_in_ascii() -> None:
    async with smtp(Mailbox()) as box:
        server = MailServer("localhost", box.port, security="none")
        await EmailChannel(server, "alerts@bücher.example", ("Ana <ana@faß.example>",)).send(notification())
    assert [envelope[:2] for envelope in box.envelopes] == [
        ("alerts@xn--bcher-kva.example", ["ana@xn--fa-hia.example"])
    ]
    assert box.mails[0]["To"] == "Ana <ana@xn--fa-hia.example>"


@pytest.mark.parametrize(
    ("hostname", "said"),
    [
        ("orders-7f9c", "[127.0.0.1]"),
        ("10.0.0.17", "[127.0.0.1]"),
        ("orders.example.com", "orders.example.com"),
        ("localhost.localdomain", "[127.0.0.1]"),
        ("bad_name.example.com", "[127.0.0.1]"),
        ("", "[127.0.0.1]"),
    ],
)
async def test_who_it_says_it_is(monkeypatch: pytest.MonkeyPatch, hostname: str, said: str) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: hostname)
    async with smtp(Mailbox()) as box:
        await channel(box, host="127.0.0.1", security="none").send(notification())
    assert set(box.greetings) == {said}


async def test_a_refused_login_is_tried_by_one_method_and_again_after_minutes(trusted: Authority) -> None:
    box = Mailbox(replies={"AUTH": "535 5.7.8 wrong"})
    async with smtp(box, starttls=trusted.server("localhost"), login=True):
        error = await failure(channel(box, password=PASSWORD))
    assert (error.retryable, error.retry_after) == (True, 300)
    assert len(box.logins) == 1


async def test_nobody_listens() -> None:
    error = await failure(channel(Mailbox(port=free_port()), host="127.0.0.1", security="none"))
    assert error.retryable


@pytest.mark.parametrize("command", ["MAIL", "DATA"])
async def test_a_server_that_stalls_is_given_up(command: str) -> None:
    async with smtp(Mailbox(stalls=command)) as box:
        error = await failure(channel(box, security="none", timeout=1))
    assert (error.retryable, str(error)) == (True, "e-mail: Timed out waiting for server response")


async def test_cancelled_it_ends_at_once() -> None:
    async with smtp(Mailbox(stalls="DATA")) as box:
        task = asyncio.create_task(channel(box, security="none").send(notification()))
        await box.stalled.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def test_secrets_are_in_no_repr() -> None:
    server = MailServer("localhost", 25, password=PASSWORD)
    assert "canary" not in f"{server!r} {vars(EmailChannel(server, OPS, (OPS,)))!r}"


async def test_a_mail_refers_only_to_what_was_delivered() -> None:
    box = Mailbox(replies={"DATA": "451 later"})
    async with smtp(box):
        sender = channel(box, security="none")
        await failure(sender)
        box.replies.clear()
        for sent in (
            notification(event(), id="first"),
            notification(event(incident="incident-2"), resolved(incident="incident-3"), id="second"),
            notification(resolved(), resolved(incident="incident-2"), id="third"),
            notification(resolved(), id="fourth"),
            notification(event(incident="incident-4"), id="fifth"),
            notification(event(incident=""), id="sixth"),
        ):
            await sender.send(sent)
    ids = [mail["Message-ID"] for mail in box.mails]
    assert [mail["References"] for mail in box.mails] == [None, None, f"{ids[0]} {ids[1]}", ids[0], None, None]
    assert [mail["In-Reply-To"] for mail in box.mails] == [None, None, ids[0], ids[0], None, None]


@pytest.mark.parametrize("length", range(20, 120, 7))
async def test_a_subject_arrives_as_it_is_whatever_its_length(length: int) -> None:
    subjects = []
    async with smtp(Mailbox()) as box:
        for letter in "xä":
            sent = notification(event(labels={"endpoint": f"/{letter * length}"}))
            subjects.append(text.subject(sent))
            await channel(box, security="none").send(sent)
    assert [str(mail["Subject"]) for mail in box.mails] == subjects
