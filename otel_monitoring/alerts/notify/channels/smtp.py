"""The delivery of one e-mail by SMTP."""

import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from email.message import EmailMessage
from ipaddress import ip_address
from typing import TYPE_CHECKING

import aiosmtplib

from otel_monitoring.errors import DeliveryError
from otel_monitoring.redact import redact

if TYPE_CHECKING:
    from otel_monitoring.alerts.notify.channels.email import MailServer

_QUIT_SECONDS = 1.0
_AFTER_REFUSED_LOGIN_SECONDS = 300.0
"""Servers lock accounts after a few refused logins."""
_QUALIFIED_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+")
_TOO_LARGE = 552
_MESSAGE_REFUSED = frozenset({_TOO_LARGE, 554})
"""SMTP codes that refuse this message for good: too large, or its content (RFC 5321 section 4.2.3)."""


async def transmit(
    server: "MailServer", message: EmailMessage, sender: str, recipients: Sequence[str]
) -> dict[str, int]:
    """Send `message` once; returns the SMTP codes of the recipients that the server refused.

    Args:
        server: The SMTP server.
        message: The e-mail.
        sender: The address that the server is told as the sender's, and the user's name where there is no other.
        recipients: Addresses.

    Raises:
        DeliveryError: Nobody got it, for another reason than that the server refused each of the recipients.
    """
    try:
        return await _sent(server, message, sender, recipients)
    except aiosmtplib.SMTPRecipientsRefused as error:
        return {recipient.recipient: recipient.code for recipient in error.recipients}
    except aiosmtplib.SMTPException as error:
        raise _delivery_error(error) from None
    except (OSError, ValueError) as error:  # TLS raises these, e.g. for a certificate that does not verify
        raise DeliveryError(f"e-mail: {redact(error, limit=200)}", retryable=True) from None


async def _sent(server: "MailServer", message: EmailMessage, sender: str, recipients: Sequence[str]) -> dict[str, int]:
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
            await _login(client, server.username or sender, server.password.get_secret_value())
        refused, _ = await client.send_message(message, sender=sender, recipients=recipients)
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


def _delivery_error(error: aiosmtplib.SMTPException) -> DeliveryError:
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
