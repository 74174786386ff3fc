"""The webhook's body and signature."""

import base64
import json

import pytest

from otel_monitoring.alerts.notify.channels.webhook import body, signature
from otel_monitoring.config.channels import webhook_key
from tests.notifications import event, notification, resolved


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The test vector of the reference libraries: https://github.com/standard-webhooks/standard-webhooks."""
    key = webhook_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_documented_body() -> None:
    sent = notification(event(), resolved(incident="incident-2"))
    document = json.loads(body(sent))
    assert document == {
        "type": "alert.firing",
        "timestamp": "2026-05-28T20:26:40.000+00:00",
        "data": {
            "id": "notification-1",
            "service": "orders",
            "environment": "production",
            "version": "1.4.2",
            "host": "web-1",
            "url": "https://orders.example.com",
            "status": "firing",
            "severity": "critical",
            "alerts": [alert.as_json() for alert in sent.events],
        },
    }
    assert json.loads(body(notification(resolved())))["type"] == "alert.resolved"


def test_whatever_the_details_hold_the_body_is_json() -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    details = {"nan": float("nan"), "inf": [float("inf")], "bytes": b"x", "half": "\ud800", ("a", 1): 1, 2: {3}}
    alert = json.loads(body(notification(event(details=details))), parse_constant=refuse)["data"]["alerts"][0]
    assert alert["details"] == {"nan": None, "inf": [None], "bytes": "x", "half": "\ud800", "('a', 1)": 1, "2": [3]}


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "whsec_c2hvcnQ=",
        "plain text that is long enough for anybody",
        "whsec_!" + base64.b64encode(bytes(32)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
        base64.b64encode(bytes(32)).decode(),
    ],
)
def test_secrets_of_another_form_are_refused_and_not_quoted(secret: str) -> None:
    with pytest.raises(ValueError, match="it must be whsec_ and 24 to 64 bytes") as caught:
        webhook_key(secret)
    assert len(secret) < 7 or secret not in str(caught.value)
