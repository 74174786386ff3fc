"""The e-mail channel: SMTP, encrypted unless configured otherwise, with verified certificates."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Literal

import idna
from pydantic import SecretStr

from otel_monitoring.alerts.model import Notification
from otel_monitoring.config.channels import Mailbox, mailbox
from otel_monitoring.errors import DeliveryError
from otel_monitoring.value import Value

logger = logging.getLogger("otel_monitoring")

_TIMEOUT_SECONDS = 10.0
_REFERENCES_LIMIT = 20
_THREADS_LIMIT = 5000
_UNFINISHED_LIMIT = 1000
_PERMANENT = 500
"""SMTP codes from here on are permanent failures (RFC 5321 section 4.2.1)."""


class MailServer(Value):
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
        # Imported with the first mail: Python's e-mail package and the client take a MiB.
        from otel_monitoring.alerts.notify.channels.email_message import compose
        from otel_monitoring.alerts.notify.channels.smtp import transmit

        message = compose(notification, self._sender, self._recipients, self._clock(), references[:_REFERENCES_LIMIT])
        finished = self._finished_recipients.get(notification.id, frozenset())
        missing = [recipient.addr_spec for recipient in self._recipients if recipient.addr_spec not in finished]
        refused = await transmit(self._server, message, self._sender.addr_spec, missing)
        if not finished and refused.keys() >= set(missing):
            codes = _codes(refused.values())
            raise DeliveryError(f"e-mail: every recipient was refused ({codes})", retryable=True)
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


def _in_ascii(address: Mailbox) -> Mailbox:
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
    return address._replace(domain=domain)


def _codes(codes: Iterable[int]) -> str:
    return ", ".join(str(code) for code in sorted(set(codes)))
