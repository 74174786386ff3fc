"""The e-mail itself: headers that thread and cannot be injected, two parts that say the same."""

import subprocess
import sys
from collections.abc import Sequence
from email import message_from_bytes
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, default

import pytest

from otel_monitoring.alerts.model import Notification
from otel_monitoring.alerts.notify.channels.email_message import compose
from otel_monitoring.config.channels import Mailbox, mailbox
from tests.notifications import NOW, STACK, event, notification, resolved

ORIGIN = Mailbox("Órders alerts", "alerts", "example.com")
OPS = (Mailbox("", "ops", "example.com"), Mailbox("Boss", "boss", "example.com"))


def received(sent: Notification, now: float = NOW, references: Sequence[str] = ()) -> EmailMessage:
    """What a mail program makes of the bytes."""
    parsed = message_from_bytes(compose(sent, ORIGIN, OPS, now, references).as_bytes(), policy=default)
    assert isinstance(parsed, EmailMessage)
    assert not parsed.defects
    return parsed


def part(message: EmailMessage, kind: str) -> str:
    body = message.get_body((kind,))
    assert body is not None
    return str(body.get_content())


def test_headers_of_a_firing_alert() -> None:
    headers = dict(received(notification()).items())
    assert headers.pop("Content-Type").startswith("multipart/alternative")
    assert headers == {
        "From": "Órders alerts <alerts@example.com>",
        "To": "ops@example.com, Boss <boss@example.com>",
        "Subject": "[orders/production] CRITICAL DATABASE_DOWN firing (endpoint=/api/orders/)",
        "Date": "Thu, 28 May 2026 20:26:40 +0000",
        "Message-ID": "<notification-1@example.com>",
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "All",
        "Importance": "high",
        "MIME-Version": "1.0",
    }


def test_the_end_of_an_incident_names_it_and_goes_on_from_its_first_mail() -> None:
    first = "<notification-1@example.com>"
    over = received(notification(resolved(message="It is back"), id="notification-2"), references=[first])
    assert over["Message-ID"] == "<notification-2@example.com>"
    assert over["In-Reply-To"] == over["References"] == first
    assert over["Subject"] == "[orders/production] CRITICAL DATABASE_DOWN resolved (endpoint=/api/orders/)"
    assert over["Importance"] is None


def test_an_attempt_repeated_later_is_the_same_message() -> None:
    first, second = received(notification()), received(notification(), NOW + 60)
    assert first["Message-ID"] == second["Message-ID"]
    assert first["Date"] != second["Date"]
    assert part(first, "html") == part(second, "html")


def test_a_group_refers_to_every_mail_it_goes_on_from() -> None:
    earlier = [f"<notification-{number}@example.com>" for number in range(20)]
    message = received(notification(event(), resolved(incident="incident-2")), references=earlier)
    assert message["References"].split() == earlier
    assert message["In-Reply-To"] == earlier[0]


def test_ids_that_may_not_stand_in_a_header_are_hashed() -> None:
    message = received(notification(event(incident="a>\r\nBcc: x@y"), id="<{1 2}>"))
    identifier = str(message["Message-ID"]).removeprefix("<").removesuffix("@example.com>")
    assert len(identifier) == 24
    assert identifier.isalnum()


def test_long_ids_and_domains_are_not_encoded() -> None:
    sender = Mailbox("", "alerts", f"{'a' * 30}.{'b' * 30}.example.com")
    sent = notification(*(event(incident=f"{i}" * 60) for i in range(30)), id="x" * 200)
    for domain, address in (
        ("otel-monitoring.invalid", sender),
        ("d" * 34 + ".com", Mailbox("", "a", "d" * 34 + ".com")),
    ):
        first = compose(sent, address, OPS, NOW)
        raw = compose(sent, address, OPS, NOW, [str(first["Message-ID"])] * 20).as_bytes(policy=SMTP)
        assert raw.count(f"@{domain}>".encode()) == 1 + 1 + 20


def test_nothing_in_an_alert_becomes_a_header() -> None:
    attack = "x\r\nBcc: victim@example.com\r\n\r\nbody"
    hostile = event(
        attack, labels={attack: attack}, details={attack: attack}, rule=attack, runbook=attack, trace_id=attack
    )
    message = received(notification(hostile, service=attack, environment=attack))
    assert set(message.keys()) == set(received(notification()).keys())
    assert message["Bcc"] is None
    assert "\n" not in message["Subject"]


def test_both_parts_say_what_since_when_how_much_and_what_to_do() -> None:
    sent = notification(
        event("Größe überschritten: 日本", details={"value": 7.5, "threshold": 5, "stack": STACK}),
        resolved(incident="incident-2"),
    )
    message = received(sent)
    for kind in ("plain", "html"):
        content = part(message, kind)
        for words in (
            "Größe überschritten: 日本",
            "2026-05-28 20:26:28 UTC",
            "7.5 (threshold 5)",
            "/api/orders/",
            "0af7651916cd43dd8448eb211c80319c",
            "https://runbooks.example.com/database-down",
            "after 3 min 20 s",
            "CRITICAL 1 firing, 1 resolved: DATABASE_DOWN",
            "orders",
            "production",
            "1.4.2",
            "web-1",
            "https://orders.example.com",
            "line 42, in create",
        ):
            assert words in content, (kind, words)


def test_html_from_an_alert_is_text() -> None:
    attack = "<script>alert(1)</script>\"'&"
    hostile = event(attack, labels={attack: attack}, details={attack: attack}, runbook='https://x/"><script>')
    content = part(received(notification(hostile, service=attack)), "html")
    assert "<script" not in content
    assert "&lt;script&gt;" in content
    assert "Runbook" not in content


def test_a_hundred_alerts_of_one_name_are_one_digest() -> None:
    message = received(notification(*(event(f"number {i}") for i in range(100))))
    for kind in ("plain", "html"):
        assert "100 alerts" in part(message, kind)
        assert "number 7" in part(message, kind)
        assert "number 8" not in part(message, kind)
        assert "… and 92 more" in part(message, kind)
        assert part(message, kind).count("connection refused") == 1


def test_a_domain_outside_ascii_makes_an_ascii_message_id() -> None:
    message = compose(notification(), mailbox("ops@münchen.example"), OPS, NOW)
    assert message["Message-ID"] == "<notification-1@xn--mnchen-3ya.example>"


@pytest.mark.parametrize(
    "text", ["", "ops", "@example.com", "ops@", "a b@example.com", "a@b@c", "x@y.z\r\nBcc: v@y.z", "A\n <x@y.z>", "<>"]
)
def test_what_is_no_mailbox_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="it must be an e-mail address such as"):
        mailbox(text)


def test_a_mailbox_may_have_a_name() -> None:
    assert mailbox("Ops team <ops@example.com>") == Mailbox("Ops team", "ops", "example.com")
    assert mailbox(" ops@example.com ") == Mailbox("", "ops", "example.com")
    assert mailbox('"on call"@example.com') == Mailbox("", '"on call"', "example.com")


@pytest.mark.parametrize(
    "spec", ["ops@example.com", "o.p-s+1@a-b.example", "x!#$%&'*/=?^_`{|}~@1.2", '"a b"@[127.0.0.1]']
)
def test_an_address_is_what_the_parser_of_headers_takes_it_for(spec: str) -> None:
    theirs = Address(addr_spec=spec)
    ours = mailbox(spec)
    assert (ours.addr_spec, ours.domain) == (theirs.addr_spec, theirs.domain)


def test_before_the_first_mail_no_parser_and_no_client_is_loaded() -> None:
    script = """
import sys
from otel_monitoring.alerts.notify.channels.email import EmailChannel, MailServer
EmailChannel(MailServer("localhost", 25), "Alerts <alerts@example.com>", ["ops@example.com"])
print(sorted({"aiosmtplib", "email.headerregistry", "email.generator"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
