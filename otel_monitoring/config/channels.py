"""`ChannelSettings`: the variables of the alert channels, such as `SMTP_SERVER` and `SLACK_WEBHOOK_URL`."""

import base64
import binascii
import re
from email.utils import parseaddr
from ipaddress import ip_address
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, FiniteFloat, SecretStr, field_validator

from otel_monitoring.config import template

_HOST = re.compile(r"[^\s/@:?#\[\]]{1,253}")
_ATOMS = r"[\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*"
_PLAIN = re.compile(rf"({_ATOMS})@([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*)", re.ASCII)
"""Nearly every address: dots and what stands between them."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\x9f]")
_Secrets = SecretStr | tuple[SecretStr, ...] | None
TITLE_FIELDS = (
    *("service", "environment", "version", "host", "url", "severity", "status", "name", "type", "rule"),
    *("labels", "message", "summary"),
)
"""What the title of a message may contain."""
_SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix of every such secret


def _from_variable(variable: str, default: Any = None) -> Any:
    """A field that is read from this environment variable, or given by its name in lower case."""
    return Field(default, validation_alias=AliasChoices(variable, variable.lower()))


class ChannelSettings(BaseModel):
    """Channels beside the log. A channel is in use where its variables are set."""

    model_config = ConfigDict(defer_build=True)  # of use as a part of `Settings` alone

    smtp_server: str | None = _from_variable("SMTP_SERVER")
    smtp_port: Annotated[int, Field(ge=1, le=65_535)] = _from_variable("SMTP_PORT", 587)
    smtp_username: str | None = _from_variable("SMTP_USERNAME")
    """None: the address of `alert_email_from`. There is no login without a password."""
    smtp_security: Literal["starttls", "tls", "none"] | None = _from_variable("SMTP_SECURITY")
    """None: `tls` on port 465, `starttls` elsewhere."""
    alert_email_from: str | None = _from_variable("ALERT_EMAIL_FROM")
    alert_email_password: SecretStr | None = _from_variable("ALERT_EMAIL_PASSWORD")
    alert_email_to: tuple[str, ...] = _from_variable("ALERT_EMAIL_TO", ())
    slack_webhook_url: SecretStr | None = _from_variable("SLACK_WEBHOOK_URL")
    slack_bot_token: SecretStr | None = _from_variable("SLACK_BOT_TOKEN")
    """In place of the webhook: messages are edited."""
    slack_channel: str | None = _from_variable("SLACK_CHANNEL")
    slack_api_url: str = _from_variable("SLACK_API_URL", "https://slack.com/api")
    alert_webhook_url: SecretStr | None = _from_variable("ALERT_WEBHOOK_URL")
    alert_webhook_secret: SecretStr | None = _from_variable("ALERT_WEBHOOK_SECRET")
    """In the form of Standard Webhooks: `whsec_` and 24 to 64 bytes in base64. None: webhooks are not signed."""
    alert_webhook_allow_private: bool = _from_variable("ALERT_WEBHOOK_ALLOW_PRIVATE", False)
    """Let the webhook's host be a loopback, private or link-local address."""
    alertmanager_url: tuple[SecretStr, ...] = _from_variable("ALERTMANAGER_URL", ())
    alert_apprise_urls: tuple[SecretStr, ...] = _from_variable("ALERT_APPRISE_URLS", ())

    alert_title: str | None = _from_variable("ALERT_TITLE")
    """The template of the first line of messages for people. None: each channel has its own."""
    alert_routes: str | None = _from_variable("ALERT_ROUTES")
    """Which alerts go to which channel: see `alerts.route`. None: all to all."""

    alert_heartbeat_url: SecretStr | None = _from_variable("ALERT_HEARTBEAT_URL")
    """Requested while rules are evaluated. None: no heartbeat."""
    alert_heartbeat_method: Literal["GET", "POST"] = _from_variable("ALERT_HEARTBEAT_METHOD", "GET")
    alert_heartbeat_interval: Annotated[FiniteFloat, Field(ge=1, le=86_400)] = _from_variable(
        "ALERT_HEARTBEAT_INTERVAL", 60.0
    )
    """Seconds."""

    @field_validator("alertmanager_url", "alert_apprise_urls", mode="before")
    @classmethod
    def _split_urls(cls, value: object) -> object:
        """Split at commas and blanks before a scheme, because a URL may contain commas."""
        if not isinstance(value, str):
            return value
        return tuple(filter(None, (url.strip(", \t\n") for url in re.split(r"[\s,]+(?=[\w.+-]+://)", value))))

    @field_validator("smtp_security", mode="before")
    @classmethod
    def _lower_case(cls, value: object) -> object:
        return value.strip().lower() if isinstance(value, str) else value

    @field_validator("alert_heartbeat_method", mode="before")
    @classmethod
    def _upper_case(cls, value: object) -> object:
        return value.strip().upper() if isinstance(value, str) else value

    @field_validator("smtp_server")
    @classmethod
    def _bare_host(cls, value: str | None) -> str | None:
        if value is None or _HOST.fullmatch(value.strip()):
            return value and value.strip()
        try:
            return str(ip_address(value.strip(" []")))
        except ValueError:
            raise ValueError("it must be a host name or an address alone; the port is SMTP_PORT") from None

    @field_validator("alert_email_from", "alert_email_to")
    @classmethod
    def _mailboxes(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        for text in (value,) if isinstance(value, str) else value or ():
            mailbox(text)
        return value

    @field_validator("slack_webhook_url", "alert_webhook_url", "alertmanager_url", "alert_heartbeat_url")
    @classmethod
    def _web_addresses(cls, value: _Secrets) -> _Secrets:
        for url in (value,) if isinstance(value, SecretStr) else value or ():
            check_web_address(url.get_secret_value())
        return value

    @field_validator("alert_title")
    @classmethod
    def _fillable(cls, value: str | None) -> str | None:
        if value is not None:
            template.check(value, dict.fromkeys(TITLE_FIELDS, ""))
        return value

    @field_validator("slack_api_url")
    @classmethod
    def _api_address(cls, value: str) -> str:
        check_web_address(value)
        return value

    @field_validator("slack_bot_token")
    @classmethod
    def _sendable(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"[!-~]{8,500}", value.get_secret_value()):
            raise ValueError("it must be a token as xoxb-…, without blanks")
        return value

    @field_validator("slack_channel")
    @classmethod
    def _identifier(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[CGD][A-Z0-9]{7,20}", value):
            raise ValueError("it must be the channel's id as C0123456789, which its details have, and not its name")
        return value

    @field_validator("alert_apprise_urls")
    @classmethod
    def _with_schemes(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if not all("://" in url.get_secret_value() for url in value):
            raise ValueError("each must be an apprise URL, which begins with a scheme and ://")
        return value

    @field_validator("alert_webhook_secret")
    @classmethod
    def _decodable(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            webhook_key(value.get_secret_value())
        return value


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
    parts = _PLAIN.fullmatch(spec)
    local_part, domain = parts.groups() if parts is not None else _parsed(spec)
    if not domain or _CONTROL.search(text):
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


def check_web_address(url: str) -> None:
    """Check that `url` is an absolute HTTP URL.

    Raises:
        ValueError: It is none.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or _UNPRINTABLE.search(url):
        raise ValueError("it must be a URL that starts with http:// or https:// and names a host")
