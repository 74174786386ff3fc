"""The e-mail channel: SMTP, encrypted unless configured otherwise, with verified certificates."""

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
_QUIT_SECONDS = 1.0
_REFERENCES_LIMIT = 20
_THREADS_LIMIT = 5000
_UNFINISHED_LIMIT = 1000
_PERMANENT = 500
"""SMTP codes from here on are permanent failures (RFC 5321 section 4.2.1)."""
_AFTER_REFUSED_LOGIN_SECONDS = 300.0
"""Servers lock accounts after a few refused logins."""
_QUALIFIED_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+")
_TOO_LARGE = 552
_MESSAGE_REFUSED = frozenset({_TOO_LARGE, 554})
"""SMTP codes that refuse this message for good: too large, or its content (RFC 5321 section 4.2.3)."""


@dataclass(frozen=True, slots=True)
class MailServer:
    """The SMTP server that mails are sent to.

    Attributes:
        host: Its name, which its certificate must contain, or its address.
        port: Its port.
        security: `starttls`: encryption is required; `tls`: encrypted from the first byte; `none`: unencrypted.
        username: The login; None: the sender's address.
        password: The password; None: no login.
        timeout: Seconds for each step of the protocol.
    """

    host: str
    port: int
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = None
    password: SecretStr | None = field(default=None, repr=False)
    timeout: float = _TIMEOUT_SECONDS


class EmailChannel:
    """Sends a notification as one e-mail to all recipients.

    Mails about one incident form a thread: later ones refer to the first one that this process delivered. Recipients
    that the server refuses temporarily get the mail later; the others get it once.

    Args:
        server: The SMTP server.
        sender: `name@example.com` or `Name <name@example.com>`.
        recipients: At least one, in the same form. Internationalised domains are converted to ASCII (RFC 5891).
        clock: Returns Unix time in seconds.

    Raises:
        ValueError: An address is invalid.
    """

    name = "email"
    latest_only = True

    def __init__(
        self, server: MailServer, sender: str, recipients: Sequence[str], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._server = server
        self._sender = _in_ascii(mailbox(sender))
        self._recipients = tuple(_in_ascii(mailbox(recipient)) for recipient in recipients)
        self._clock = clock
        self._first_message_ids: dict[str, str] = {}
        """The id of the first mail about each incident."""
        self._finished_recipients: dict[str, frozenset[str]] = {}
        """The recipients that a notification is not sent to again, by the id of the notification."""

    async def send(self, notification: Notification) -> None:
        """Send it to the recipients that do not have it yet.

        Raises:
            DeliveryError: A recipient does not have it. Only a refusal of this very message is final: refused
                recipients and logins and invalid certificates can be fixed, and the alert then still arrives.
        """
        incidents = dict.fromkeys(event.incident for event in notification.events if event.incident)
        first_ids = self._first_message_ids
        references = list(dict.fromkeys(first_ids[known] for known in incidents if known in first_ids))
        message = compose(notification, self._sender, self._recipients, self._clock(), references[:_REFERENCES_LIMIT])
        finished = self._finished_recipients.get(notification.id, frozenset())
        missing = [recipient.addr_spec for recipient in self._recipients if recipient.addr_spec not in finished]
        try:
            refused = await self._transmit(message, missing)
        except aiosmtplib.SMTPRecipientsRefused as error:
            if not finished:
                raise _delivery_error(error) from None
            refused = {recipient.recipient: recipient.code for recipient in error.recipients}
        except aiosmtplib.SMTPException as error:
            raise _delivery_error(error) from None
        except (OSError, ValueError) as error:  # TLS raises these, e.g. for a certificate that does not verify
            raise DeliveryError(f"e-mail: {redact(error, limit=200)}", retryable=True) from None
        self._start_threads(incidents, str(message["Message-ID"]))
        self._finish(notification.id, finished | set(missing) - refused.keys(), refused)

    def _finish(self, identifier: str, finished: frozenset[str], refused: Mapping[str, int]) -> None:
        """Raise where recipients were refused temporarily, and note which recipients are finished."""
        self._finished_recipients.pop(identifier, None)
        if not refused:
            return
        summary = f"{len(refused)} of {len(self._recipients)} recipients refused ({_codes(refused.values())})"
        if all(code >= _PERMANENT for code in refused.values()):
            logger.warning("e-mail: %s", summary)
            return
        permanently = {recipient for recipient, code in refused.items() if code >= _PERMANENT}
        self._finished_recipients[identifier] = finished | permanently
        if len(self._finished_recipients) > _UNFINISHED_LIMIT:
            del self._finished_recipients[next(iter(self._finished_recipients))]
        raise DeliveryError(f"e-mail: {summary}", retryable=True, partly=True)

    def _start_threads(self, incidents: Iterable[str], message_id: str) -> None:
        """Make a mail the first one of the incidents that had none."""
        for incident in incidents:
            self._first_message_ids.setdefault(incident, message_id)
        while len(self._first_message_ids) > _THREADS_LIMIT:
            del self._first_message_ids[next(iter(self._first_message_ids))]

    async def _transmit(self, message: EmailMessage, recipients: Sequence[str]) -> dict[str, int]:
        """Send the message; returns the SMTP codes of the refused recipients, where not all were refused."""
        server = self._server
        client = aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            timeout=server.timeout,
            use_tls=server.security == "tls",
            start_tls=False,  # below, after EHLO has a name that is known only once connected
            local_hostname="localhost",
        )
        try:
            await client.connect()
            client.local_hostname = _ehlo_name(client)
            if server.security == "starttls":
                await client.starttls()
            if server.password is not None:
                await _login(client, server.username or self._sender.addr_spec, server.password.get_secret_value())
            refused, _ = await client.send_message(message, sender=self._sender.addr_spec, recipients=recipients)
            with suppress(aiosmtplib.SMTPException):  # the mail is delivered, whatever becomes of QUIT
                await client.quit(timeout=_QUIT_SECONDS)
        finally:
            client.close()
        return {recipient: response.code for recipient, response in refused.items()}


async def _login(client: aiosmtplib.SMTP, username: str, password: str) -> None:
    """Log in with the first method that both sides support; a wrong password is then sent only once."""
    await client.ehlo()
    method = next(iter(client.supported_auth_methods), None)
    if method is None:
        raise aiosmtplib.SMTPException("The server offers no login that is known here.")
    await getattr(client, f"auth_{method.replace('-', '')}")(username, password)


def _ehlo_name(client: aiosmtplib.SMTP) -> str:
    """The argument of EHLO: the qualified name of this host, else its address (RFC 5321 section 4.1.4).

    It needs no DNS lookup, which may fail in the outage that the mail is about.
    """
    name = socket.gethostname()
    if _QUALIFIED_NAME.fullmatch(name) and not name.startswith("localhost.") and not name.replace(".", "").isdigit():
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
        ValueError: The domain is invalid.
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
        # The code only: some servers repeat the credentials in their text.
        wait = _AFTER_REFUSED_LOGIN_SECONDS
        return DeliveryError(f"e-mail: the server refused the login ({error.code})", retryable=True, retry_after=wait)
    if isinstance(error, aiosmtplib.SMTPResponseException):
        final = (isinstance(error, aiosmtplib.SMTPDataError) and error.code in _MESSAGE_REFUSED) or (
            isinstance(error, aiosmtplib.SMTPSenderRefused) and error.code == _TOO_LARGE
        )
        return DeliveryError(f"e-mail: {error.code} {redact(error.message, limit=200)}", retryable=not final)
    return DeliveryError(f"e-mail: {redact(error.message, limit=200)}", retryable=True)


def _codes(codes: Iterable[int]) -> str:
    return ", ".join(str(code) for code in sorted(set(codes)))
