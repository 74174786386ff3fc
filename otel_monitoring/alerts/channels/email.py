"""E-mail over SMTP: encrypted unless the user says otherwise, certificates verified, one attempt."""

import logging
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Literal

import aiosmtplib
from pydantic import SecretStr

from otel_monitoring.alerts.channels.mail import compose
from otel_monitoring.channel_settings import mailbox
from otel_monitoring.errors import DeliveryError
from otel_monitoring.events import Notification
from otel_monitoring.redact import redact

logger = logging.getLogger("otel_monitoring")

_TIMEOUT_SECONDS = 10.0
_GOODBYE_SECONDS = 1.0
_REFERENCES = 20
_CONVERSATIONS = 5000


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

    A mail about an incident refers to the first one that this process delivered about it.

    Args:
        server: Who takes it.
        sender: `name@example.com` or `Name <name@example.com>`.
        recipients: At least one, in the same form.
        clock: Unix time in seconds.

    Raises:
        ValueError: An address that is none.
    """

    name = "email"

    def __init__(
        self, server: MailServer, sender: str, recipients: Sequence[str], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._server = server
        self._sender = mailbox(sender)
        self._recipients = tuple(mailbox(recipient) for recipient in recipients)
        self._clock = clock
        self._conversations: dict[str, str] = {}

    async def send(self, notification: Notification) -> None:
        """Send it. Delivered is what the server took for at least one recipient; the refused ones are logged.

        Raises:
            DeliveryError: Not delivered. Final is only what the server says about this message or these recipients
                (5xx): a refused login or a certificate is put right by people, and then the alert shall still arrive.
        """
        incidents = dict.fromkeys(event.incident for event in notification.events if event.incident)
        earlier = dict.fromkeys(self._conversations[known] for known in incidents if known in self._conversations)
        message = compose(notification, self._sender, self._recipients, self._clock(), list(earlier)[:_REFERENCES])
        try:
            refused = await self._transmit(message)
        except aiosmtplib.SMTPException as error:
            raise _delivery_error(error) from None
        except (OSError, ValueError) as error:  # TLS: a certificate that does not verify, a protocol in ruins
            raise DeliveryError(f"e-mail: {redact(error, limit=200)}", retryable=True) from None
        self._remember(incidents, str(message["Message-ID"]))
        if refused:
            total = len(self._recipients)
            logger.warning("e-mail: %d of %d recipients refused (%s)", len(refused), total, _codes(refused))

    def _remember(self, incidents: Iterable[str], message_id: str) -> None:
        """The first mail that was delivered about an incident is the one that later ones go on from."""
        for incident in incidents:
            self._conversations.setdefault(incident, message_id)
        while len(self._conversations) > _CONVERSATIONS:
            del self._conversations[next(iter(self._conversations))]

    async def _transmit(self, message: EmailMessage) -> list[int]:
        """Returns the codes of the recipients that were refused while others were not."""
        server = self._server
        client = aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            timeout=server.timeout,
            use_tls=server.security == "tls",
            start_tls=server.security == "starttls",
            # Without a name of our own it would be asked of the name server, which may be what is down.
            local_hostname=socket.gethostname() or "localhost",
        )
        try:
            await client.connect()
            if server.password is not None:
                await client.login(server.username or self._sender.addr_spec, server.password.get_secret_value())
            refused, _ = await client.send_message(
                message,
                sender=self._sender.addr_spec,
                recipients=[recipient.addr_spec for recipient in self._recipients],
            )
            with suppress(aiosmtplib.SMTPException):  # it has been delivered: no failure of the goodbye may undo that
                await client.quit(timeout=_GOODBYE_SECONDS)
        finally:
            client.close()
        return [response.code for response in refused.values()]


def _delivery_error(error: aiosmtplib.SMTPException) -> DeliveryError:
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        codes = [recipient.code for recipient in error.recipients]
        later = any(code < 500 for code in codes)
        return DeliveryError(f"e-mail: every recipient was refused ({_codes(codes)})", retryable=later)
    if isinstance(error, aiosmtplib.SMTPAuthenticationError):
        # The code alone: some servers repeat what they were told.
        return DeliveryError(f"e-mail: the server refused the login ({error.code})", retryable=True)
    if isinstance(error, aiosmtplib.SMTPResponseException):
        final = isinstance(error, aiosmtplib.SMTPDataError | aiosmtplib.SMTPSenderRefused) and error.code >= 500
        return DeliveryError(f"e-mail: {error.code} {redact(error.message, limit=200)}", retryable=not final)
    return DeliveryError(f"e-mail: {redact(error.message, limit=200)}", retryable=True)


def _codes(codes: Sequence[int]) -> str:
    return ", ".join(str(code) for code in sorted(set(codes)))
