"""`ChannelSettings`: the variables of the alert channels, such as `SMTP_SERVER` and `SLACK_WEBHOOK_URL`."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from email.utils import parseaddr
from functools import partial
from ipaddress import ip_address
from typing import Literal, NamedTuple

from pydantic import SecretStr

from otel_monitoring.config import template
from otel_monitoring.config.setting import Section, setting
from otel_monitoring.config.values import (
    boolean,
    choice,
    each,
    number,
    secret,
    secret_web_address,
    text,
    web_address,
    whole,
)

Security = Literal["starttls", "tls", "none"]
HeartbeatMethod = Literal["GET", "POST"]

_HOST = r"[^\s/@:?#\[\]]{1,253}"
_ATOMS = r"[\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*"
_PLAIN = rf"({_ATOMS})@([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*)"
"""Nearly every address: dots and what stands between them."""
_CONTROL = r"[\x00-\x1f\x7f-\x9f]"
_TOKEN = r"[!-~]{8,500}"  # noqa: S105 - the form of one
_CHANNEL = r"[CGD][A-Z0-9]{7,20}"
_BETWEEN_URLS = r"[\s,]+(?=[\w.+-]+://)"
TITLE_FIELDS = (
    *("service", "environment", "version", "host", "url", "severity", "status", "name", "type", "rule"),
    *("labels", "message", "summary"),
)
"""What the title of a message may contain."""
_SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix of every such secret


class Mailbox(NamedTuple):
    """Who sends or gets an e-mail.

    Attributes:
        display_name: The name that mail programs show; empty for none.
        local_part: What stands before the `@`, quoted where it must be.
        domain: What stands after it.
    """

    display_name: str
    local_part: str
    domain: str

    @property
    def addr_spec(self) -> str:
        """The address alone."""
        return f"{self.local_part}@{self.domain}"


def mailbox(text: str) -> Mailbox:
    """Parse `name@example.com` or `Name <name@example.com>` (RFC 5322, section 3.4).

    Raises:
        ValueError: It is no mailbox, or contains control characters.
    """
    name, spec = parseaddr(text)
    parts = re.fullmatch(_PLAIN, spec, re.ASCII)
    local_part, domain = parts.groups() if parts is not None else _parsed(spec)
    if not domain or re.search(_CONTROL, text):
        raise ValueError("it must be an e-mail address such as ops@example.com or Ops <ops@example.com>")
    return Mailbox(name, local_part, domain)


def _parsed(spec: str) -> tuple[str, str]:
    """Local part and domain of any address, empty where it is none."""
    # Imported here: Python's parser of e-mail headers takes half a MiB, for which hardly any address asks.
    from email.errors import MessageError
    from email.headerregistry import Address

    try:
        address = Address(addr_spec=spec)
    except (ValueError, IndexError, MessageError):
        return "", ""
    local_part, _, _ = address.addr_spec.rpartition("@")
    return local_part, address.domain


def webhook_key(secret: str) -> bytes:
    """The key in a secret of Standard Webhooks, `whsec_` and base64.

    Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

    Raises:
        ValueError: The secret has another form.
    """
    try:
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if not secret.startswith(_SECRET_PREFIX) or not 24 <= len(key) <= 64:
        raise ValueError("it must be whsec_ and 24 to 64 bytes in base64: echo whsec_$(openssl rand -base64 32)")
    return key


def _bare_host(value: str) -> str:
    if re.fullmatch(_HOST, value):
        return value
    try:
        return str(ip_address(value.strip(" []")))
    except ValueError:
        raise ValueError("it must be a host name or an address alone; the port is SMTP_PORT") from None


def _mailbox(value: object) -> str:
    address = text(value)
    mailbox(address)
    return address


def _sendable(token: str) -> str:
    if not re.fullmatch(_TOKEN, token):
        raise ValueError("it must be a token as xoxb-…, without blanks")
    return token


def _identifier(value: str) -> str:
    if not re.fullmatch(_CHANNEL, value):
        raise ValueError("it must be the channel's id as C0123456789, which its details have, and not its name")
    return value


def _decodable(value: str) -> str:
    webhook_key(value)
    return value


def _urls(value: str) -> Iterator[str]:
    """Split at commas and blanks before a scheme, because a URL may contain commas."""
    return filter(None, (url.strip(", \t\n") for url in re.split(_BETWEEN_URLS, value)))


def _with_scheme(url: str) -> str:
    if "://" not in url:
        raise ValueError("each must be an apprise URL, which begins with a scheme and ://")
    return url


def _fillable(value: str) -> str:
    template.check(value, dict.fromkeys(TITLE_FIELDS, ""))
    return value


class ChannelSettings(Section, variable=str.upper):
    """Channels beside the log. A channel is in use where its variables are set."""

    smtp_server: str | None = setting(None, text, _bare_host)
    smtp_port: int = setting(587, partial(whole, least=1, most=65_535))
    smtp_username: str | None = setting(None, text)
    """None: the address of `alert_email_from`. There is no login without a password."""
    smtp_security: Security | None = setting(None, choice(Security))
    """None: `tls` on port 465, `starttls` elsewhere."""
    alert_email_from: str | None = setting(None, text, _mailbox)
    alert_email_password: SecretStr | None = setting(None, secret(), verbatim=True)
    alert_email_to: tuple[str, ...] = setting((), each(_mailbox))
    slack_webhook_url: SecretStr | None = setting(None, secret_web_address)
    slack_bot_token: SecretStr | None = setting(None, secret(_sendable))
    """In place of the webhook: messages are edited."""
    slack_channel: str | None = setting(None, text, _identifier)
    slack_api_url: str = setting("https://slack.com/api", text, web_address)
    alert_webhook_url: SecretStr | None = setting(None, secret_web_address)
    alert_webhook_secret: SecretStr | None = setting(None, secret(_decodable))
    """In the form of Standard Webhooks: `whsec_` and 24 to 64 bytes in base64. None: webhooks are not signed."""
    alert_webhook_allow_private: bool = setting(False, boolean)
    """Let the webhook's host be a loopback, private or link-local address."""
    alertmanager_url: tuple[SecretStr, ...] = setting((), each(secret_web_address, _urls))
    alert_apprise_urls: tuple[SecretStr, ...] = setting((), each(secret(_with_scheme), _urls))

    alert_title: str | None = setting(None, text, _fillable)
    """The template of the first line of messages for people. None: each channel has its own."""
    alert_routes: str | None = setting(None, text)
    """Which alerts go to which channel: see `alerts.route`. None: all to all."""

    alert_heartbeat_url: SecretStr | None = setting(None, secret_web_address)
    """Requested while rules are evaluated. None: no heartbeat."""
    alert_heartbeat_method: HeartbeatMethod = setting("GET", choice(HeartbeatMethod))
    alert_heartbeat_interval: float = setting(60.0, partial(number, least=1, most=86_400, unit="seconds"))
    """Seconds."""
