"""The e-mail of a notification: headers that make one conversation of an incident, a text part and an HTML part."""

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from html import escape

from otel_monitoring.alerts.channels import text
from otel_monitoring.events import AlertEvent, AlertSeverity, Notification, Status

_COLOURS = {
    AlertSeverity.INFO: "#1c7ed6",
    AlertSeverity.WARNING: "#b35c00",
    AlertSeverity.ERROR: "#d9480f",
    AlertSeverity.CRITICAL: "#c92a2a",
}
_RESOLVED_COLOUR = "#2b8a3e"

# `email` encodes what does not fit into a line of 78 characters, message ids too, which may not be encoded:
# `In-Reply-To: <` and `>` leave 63 for both sides and the @.
_TOKEN_LENGTH = 24
_DOMAIN_LENGTH = 38
_ANY_DOMAIN = "otel-monitoring.invalid"

_FONT = "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
_MONO = "font-family:ui-monospace,Menlo,Consolas,monospace"


def compose(notification: Notification, sender: Address, recipients: Sequence[Address], now: float) -> EmailMessage:
    """The e-mail, the same but for its `Date` for every attempt.

    Mail programs make conversations of the ids in `References` (RFC 5322 section 3.6.4), some of equal subjects as
    well: both are the same from the firing of an incident to its end. The ids belong to no message that was ever sent,
    so that the conversation does not depend on which messages arrived.

    Args:
        notification: What to say.
        sender: The mailbox in `From`.
        recipients: The mailboxes in `To`.
        now: Unix time in seconds.
    """
    message = EmailMessage(policy=SMTP)
    domain = _domain(sender)
    again = "Re: " if notification.status is Status.RESOLVED else ""
    incidents = dict.fromkeys(event.incident for event in notification.events if event.incident)
    references = [f"<{_token(f'incident-{incident}')}@{domain}>" for incident in list(incidents)[: text.EVENTS_SHOWN]]
    message["From"] = sender
    message["To"] = tuple(recipients)
    message["Subject"] = f"{again}{text.subject(notification)}"
    message["Date"] = datetime.fromtimestamp(now, timezone.utc)
    message["Message-ID"] = f"<{_token(notification.id)}@{domain}>"
    if references:
        message["In-Reply-To"] = references[0]
        message["References"] = " ".join(references)
    # RFC 3834: nobody's holiday notice answers; the second is what Exchange looks at.
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    if notification.severity is AlertSeverity.CRITICAL and not again:
        message["Importance"] = "high"
    message.set_content(plain(notification))
    message.add_alternative(html(notification), subtype="html")
    return message


def plain(notification: Notification) -> str:
    """The text part."""
    shown, hidden = _shown(notification)
    blocks = [text.summary(notification)] if len(notification.events) > 1 else []
    blocks += [text.plain(event) for event in shown]
    if hidden:
        blocks.append(f"… and {hidden} more")
    blocks.append(f"-- \n{text.source(notification)}")
    return "\n\n".join(blocks) + "\n"


def html(notification: Notification) -> str:
    """The HTML part: tables and inline styles, which is what mail programs show alike."""
    shown, hidden = _shown(notification)
    cards = "".join(_card(event) for event in shown)
    more = f'<p style="margin:0 0 16px;color:#495057">… and {hidden} more</p>' if hidden else ""
    count = len(notification.events)
    line = f'<p style="margin:0 0 16px;font-size:15px">{escape(text.summary(notification))}</p>' if count > 1 else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light"></head>'
        f'<body style="margin:0;padding:0;background:#f1f3f5;color:#212529;{_FONT}">'
        f'<div style="display:none;max-height:0;overflow:hidden">{escape(text.summary(notification))}</div>'
        '<table role="presentation" width="100%" cellpadding="0" cellspacing="0" border="0"><tr>'
        '<td align="center" style="padding:24px 12px">'
        '<table role="presentation" width="100%" cellpadding="0" cellspacing="0" border="0" '
        'style="max-width:640px;text-align:left"><tr><td>'
        f"{line}{cards}{more}"
        f'<p style="margin:0;font-size:13px;color:#5c636a">{escape(text.source(notification))}</p>'
        "</td></tr></table></td></tr></table></body></html>"
    )


def _card(event: AlertEvent) -> str:
    resolved = event.status is Status.RESOLVED
    colour = _RESOLVED_COLOUR if resolved else _COLOURS[event.severity]
    state = "Resolved" if resolved else event.severity.value.capitalize()
    rows = "".join(_row(name, value) for name, value in text.facts(event))
    runbook = text.link(event.runbook)
    button = (
        '<p style="margin:14px 0 0;font-size:14px">'
        f'<a href="{escape(runbook)}" style="color:{colour};font-weight:600">Runbook</a></p>'
        if runbook
        else ""
    )
    return (
        '<table role="presentation" width="100%" cellpadding="0" cellspacing="0" border="0" '
        f'style="margin:0 0 16px;background:#ffffff;border-left:6px solid {colour};border-radius:6px">'
        '<tr><td style="padding:18px 22px">'
        f'<p style="margin:0;font-size:13px;font-weight:600;color:{colour}">{state} · {escape(text.title(event))}</p>'
        f'<p style="margin:6px 0 14px;font-size:18px;line-height:1.35;font-weight:600;overflow-wrap:anywhere">'
        f"{escape(text.one_line(event.message))}</p>"
        '<table role="presentation" cellpadding="0" cellspacing="0" border="0" style="font-size:14px;line-height:1.5">'
        f"{rows}</table>{button}</td></tr></table>"
    )


def _row(name: str, value: str) -> str:
    style = f"{_MONO};font-size:12px;white-space:pre-wrap;" if "\n" in value else ""
    return (
        '<tr><td valign="top" style="padding:2px 16px 2px 0;color:#5c636a;min-width:72px;white-space:nowrap">'
        f"{escape(name)}</td>"
        f'<td valign="top" style="padding:2px 0;overflow-wrap:anywhere;word-break:break-word;{style}">'
        f"{escape(value)}</td></tr>"
    )


def _shown(notification: Notification) -> tuple[tuple[AlertEvent, ...], int]:
    shown = notification.events[: text.EVENTS_SHOWN]
    return shown, len(notification.events) - len(shown)


def _domain(sender: Address) -> str:
    """The right side of our message ids: the sender's domain in ASCII, unless it makes them too long for a line."""
    try:
        domain = sender.domain.encode("idna").decode("ascii")
    except UnicodeError:
        return _ANY_DOMAIN
    return domain if len(domain) <= _DOMAIN_LENGTH else _ANY_DOMAIN


def _token(identifier: str) -> str:
    """`identifier` as the left side of a message id: as it is where it may stand there, else its hash."""
    if len(identifier) <= _TOKEN_LENGTH and re.fullmatch(r"[\w-]+", identifier, re.ASCII):
        return identifier
    return hashlib.sha256(identifier.encode("utf-8", "replace")).hexdigest()[:_TOKEN_LENGTH]
