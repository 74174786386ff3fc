"""E-mail over SMTP: encrypted unless the user says otherwise, certificates verified, one attempt."""

import logging
import re
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from ipaddress import ip_address
from typing import Literal

import aiosmtplib
import idna
from pydantic import SecretStr

from otel_monitoring.alerts.model import Notification
from otel_monitoring.alerts.notify.channels.email_message import compose
from otel_monitoring.config.channels import mailbox
from otel_monitoring.errors import DeliveryError
from otel_monitoring.redact import redact

logger = logging.getLogger("otel_monitoring")

_TIMEOUT_SECONDS = 10.0
_GOODBYE_SECONDS = 1.0
_REFERENCES = 20
_CONVERSATIONS = 5000
_UNFINISHED = 1000
_FOR_GOOD = 500
_AFTER_REFUSED_LOGIN_SECONDS = 300.0
"""Servers lock accounts after a few refused logins."""
_QUALIFIED = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+")
_TOO_LARGE = 552
_ABOUT_THE_MESSAGE = frozenset({_TOO_LARGE, 554})
"""The answers to a message that a server never takes: too large, its content refused (RFC 5321 section 4.2.3)."""


@dataclass(frozen=True, slots=True)
class MailServer:
    """The server that takes our mail.

    Attributes:
        host: Its name, which its certificate must have, or its address.
        port: Its port.
        security: `starttls`: encrypted or not at all; `tls`: encrypted from the first byte; `none`: in clear.
        username: Who logs in; None: the sender's address.
        password: None: nobody logs in.
        timeout: Seconds for each step.
    """

    host: str
    port: int
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = None
    password: SecretStr | None = field(default=None, repr=False)
    timeout: float = _TIMEOUT_SECONDS


class EmailChannel:
    """Sends a notification as one e-mail to all recipients.

    A mail about an incident refers to the first one that this process delivered about it. Recipients that the server
    refuses for now get the mail later; those that it took the mail for do not get it again.

    Args:
        server: Who takes it.
        sender: `name@example.com` or `Name <name@example.com>`.
        recipients: At least one, in the same form. Domains in other scripts are written in ASCII (RFC 5891).
        clock: Unix time in seconds.

    Raises:
        ValueError: An address that is none.
    """

    name = "email"
    latest_only = True
    """People read what is so now: see `Notification.latest`."""

    def __init__(
        self, server: MailServer, sender: str, recipients: Sequence[str], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._server = server
        self._sender = _in_ascii(mailbox(sender))
        self._recipients = tuple(_in_ascii(mailbox(recipient)) for recipient in recipients)
        self._clock = clock
        self._conversations: dict[str, str] = {}
        self._unfinished: dict[str, frozenset[str]] = {}

    async def send(self, notification: Notification) -> None:
        """Send it to those who do not have it yet.

        Raises:
            DeliveryError: Somebody does not have it. Final is only what the server says about this message: a refused
                recipient, a refused login or a certificate is put right by people, and then the alert shall arrive.
        """
        incidents = dict.fromkeys(event.incident for event in notification.events if event.incident)
        earlier = dict.fromkeys(self._conversations[known] for known in incidents if known in self._conversations)
        message = compose(notification, self._sender, self._recipients, self._clock(), list(earlier)[:_REFERENCES])
        have = self._unfinished.get(notification.id, frozenset())
        wanting = [recipient.addr_spec for recipient in self._recipients if recipient.addr_spec not in have]
        try:
            refused = await self._transmit(message, wanting)
        except aiosmtplib.SMTPRecipientsRefused as error:
            if not have:
                raise _delivery_error(error) from None
            refused = {recipient.recipient: recipient.code for recipient in error.recipients}
        except aiosmtplib.SMTPException as error:
            raise _delivery_error(error) from None
        except (OSError, ValueError) as error:  # TLS: a certificate that does not verify, a protocol in ruins
            raise DeliveryError(f"e-mail: {redact(error, limit=200)}", retryable=True) from None
        self._remember(incidents, str(message["Message-ID"]))
        self._finish(notification.id, have | set(wanting) - refused.keys(), refused)

    def _finish(self, identifier: str, have: frozenset[str], refused: Mapping[str, int]) -> None:
        self._unfinished.pop(identifier, None)
        if not refused:
            return
        told = f"{len(refused)} of {len(self._recipients)} recipients refused ({_codes(refused.values())})"
        if all(code >= _FOR_GOOD for code in refused.values()):
            logger.warning("e-mail: %s", told)
            return
        # Those who are refused for good are not asked again.
        self._unfinished[identifier] = have | {who for who, code in refused.items() if code >= _FOR_GOOD}
        if len(self._unfinished) > _UNFINISHED:
            del self._unfinished[next(iter(self._unfinished))]
        raise DeliveryError(f"e-mail: {told}", retryable=True, partly=True)

    def _remember(self, incidents: Iterable[str], message_id: str) -> None:
        """The first mail that was delivered about an incident is the one that later ones go on from."""
        for incident in incidents:
            self._conversations.setdefault(incident, message_id)
        while len(self._conversations) > _CONVERSATIONS:
            del self._conversations[next(iter(self._conversations))]

    async def _transmit(self, message: EmailMessage, recipients: Sequence[str]) -> dict[str, int]:
        """Returns the codes of the recipients that were refused while others were not."""
        server = self._server
        client = aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            timeout=server.timeout,
            use_tls=server.security == "tls",
            start_tls=False,  # below: who we are is said before it, and known only once there is a connection
            local_hostname="localhost",
        )
        try:
            await client.connect()
            client.local_hostname = _own_name(client)
            if server.security == "starttls":
                await client.starttls()
            if server.password is not None:
                await _login(client, server.username or self._sender.addr_spec, server.password.get_secret_value())
            refused, _ = await client.send_message(message, sender=self._sender.addr_spec, recipients=recipients)
            with suppress(aiosmtplib.SMTPException):  # it has been delivered: no failure of the goodbye may undo that
                await client.quit(timeout=_GOODBYE_SECONDS)
        finally:
            client.close()
        return {who: response.code for who, response in refused.items()}


async def _login(client: aiosmtplib.SMTP, username: str, password: str) -> None:
    """Log in, by the first method that both know: a wrong password is sent once, not once for each method."""
    await client.ehlo()
    method = next(iter(client.supported_auth_methods), None)
    if method is None:
        raise aiosmtplib.SMTPException("The server offers no login that is known here.")
    await getattr(client, f"auth_{method.replace('-', '')}")(username, password)


def _own_name(client: aiosmtplib.SMTP) -> str:
    """What EHLO says: this host's qualified name where it has one, else its address (RFC 5321 section 4.1.4).

    The name server is not asked: it may be what is down.
    """
    name = socket.gethostname()
    if _QUALIFIED.fullmatch(name) and not name.startswith("localhost.") and not name.replace(".", "").isdigit():
        return name
    here = client.get_transport_info("sockname")
    try:
        address = ip_address(here[0].partition("%")[0])
    except (TypeError, ValueError):
        return "[127.0.0.1]"
    return f"[{address}]" if address.version == 4 else f"[IPv6:{address}]"


def _in_ascii(address: Address) -> Address:
    """The mailbox with its domain in ASCII.

    Raises:
        ValueError: The domain cannot be one.
    """
    if address.domain.isascii():
        return address
    try:
        domain = idna.encode(address.domain, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise ValueError(f"{address.domain!r} is no domain: {error}") from None
    return Address(address.display_name, address.username, domain)


def _delivery_error(error: aiosmtplib.SMTPException) -> DeliveryError:
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        codes = [recipient.code for recipient in error.recipients]
        return DeliveryError(f"e-mail: every recipient was refused ({_codes(codes)})", retryable=True)
    if isinstance(error, aiosmtplib.SMTPAuthenticationError):
        # The code alone: some servers repeat what they were told.
        wait = _AFTER_REFUSED_LOGIN_SECONDS
        return DeliveryError(f"e-mail: the server refused the login ({error.code})", retryable=True, retry_after=wait)
    if isinstance(error, aiosmtplib.SMTPResponseException):
        final = (isinstance(error, aiosmtplib.SMTPDataError) and error.code in _ABOUT_THE_MESSAGE) or (
            isinstance(error, aiosmtplib.SMTPSenderRefused) and error.code == _TOO_LARGE
        )
        return DeliveryError(f"e-mail: {error.code} {redact(error.message, limit=200)}", retryable=not final)
    return DeliveryError(f"e-mail: {redact(error.message, limit=200)}", retryable=True)


def _codes(codes: Iterable[int]) -> str:
    return ", ".join(str(code) for code in sorted(set(codes)))
