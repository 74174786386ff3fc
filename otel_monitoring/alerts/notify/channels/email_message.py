"""The e-mail of a notification: headers that form threads, a text part and an HTML part."""

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from email.headerregistry import Address, BaseHeader, HeaderRegistry, UniqueUnstructuredHeader
from email.message import EmailMessage
from email.policy import SMTP, Policy
from html import escape

from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, Notification, Status
from otel_monitoring.alerts.notify.channels import evidence, text
from otel_monitoring.config.channels import Mailbox

_COLOURS = {
    AlertSeverity.INFO: "#1c7ed6",
    AlertSeverity.WARNING: "#b35c00",
    AlertSeverity.ERROR: "#d9480f",
    AlertSeverity.CRITICAL: "#c92a2a",
}
_RESOLVED_COLOUR = "#2b8a3e"

# `email` encodes lines longer than 78 characters, but a message id must not be encoded. After `In-Reply-To: <` and `>`
# 63 characters are left for the id.
_ID_LEFT_LENGTH = 24
_DOMAIN_LENGTH = 38
_SUBJECT_LENGTH = 200
_FALLBACK_DOMAIN = "otel-monitoring.invalid"

_DRAWN = 5
"""The most alerts of a mail whose courses are drawn; those of more are text."""
_CHART_HEIGHT = 36

_FONT = "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
_MONO = "font-family:ui-monospace,Menlo,Consolas,monospace"


class _Subject(UniqueUnstructuredHeader, BaseHeader):  # type: ignore[misc] # typeshed's `max_count`
    """An ASCII subject on one line; when `email` folds one, a line may start with an extra blank."""

    def fold(self, *, policy: Policy) -> str:
        unfolded = policy.clone(max_line_length=_SUBJECT_LENGTH) if self.isascii() else policy
        return super().fold(policy=unfolded)


_HEADERS = HeaderRegistry()
_HEADERS.map_to_type("subject", _Subject)
_POLICY = SMTP.clone(header_factory=_HEADERS)


def compose(
    notification: Notification,
    sender: Mailbox,
    recipients: Sequence[Mailbox],
    now: float,
    references: Sequence[str] = (),
) -> EmailMessage:
    """The e-mail of a notification; every attempt differs in its `Date` only.

    Args:
        notification: The notification.
        sender: The mailbox in `From`.
        recipients: The mailboxes in `To`.
        now: Unix seconds, for `Date`.
        references: The ids of the earlier mails in the thread (RFC 5322 section 3.6.4); none for the first one.
    """
    message = EmailMessage(policy=_POLICY)
    message["From"] = _address(sender)
    message["To"] = tuple(map(_address, recipients))
    message["Subject"] = text.subject(notification)
    message["Date"] = datetime.fromtimestamp(now, timezone.utc)
    message["Message-ID"] = f"<{_id_left(notification.id)}@{_domain(sender)}>"
    if references:
        message["In-Reply-To"] = references[0]
        message["References"] = " ".join(references)
    # RFC 3834: no automatic replies, e.g. holiday notices; Exchange needs the second header.
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    if notification.severity is AlertSeverity.CRITICAL and notification.status is Status.FIRING:
        message["Importance"] = "high"
    message.set_content(text_part(notification))
    message.add_alternative(html_part(notification), subtype="html")
    return message


def text_part(notification: Notification) -> str:
    """The text part."""
    shown, hidden = text.shown(notification)
    blocks = [text.summary(notification)] if len(notification.events) > 1 else []
    blocks += [text.plain_text(event, evidence.plain_lines(event)) for event in shown]
    if hidden:
        blocks.append(f"… and {hidden} more")
    blocks.append(text.origin_lines(notification))
    return "\n\n".join(blocks) + "\n"


def html_part(notification: Notification) -> str:
    """The HTML part, of tables and inline styles, which all mail programs support."""
    shown, hidden = text.shown(notification)
    drawn = len(shown) <= _DRAWN  # Gmail cuts a mail after 102 KB
    cards = "".join(_card(event, drawn=drawn) for event in shown)
    more = f'<p style="margin:0 0 16px;color:#495057">… and {hidden} more</p>' if hidden else ""
    origin = "".join(_row(name, value) for name, value in text.origin(notification))
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
        '<table role="presentation" cellpadding="0" cellspacing="0" border="0" style="font-size:13px;line-height:1.5">'
        f"{origin}</table>"
        "</td></tr></table></td></tr></table></body></html>"
    )


def _card(event: AlertEvent, *, drawn: bool) -> str:
    resolved = event.status is Status.RESOLVED
    colour = _RESOLVED_COLOUR if resolved else _COLOURS[event.severity]
    state = f"{event.severity.value.capitalize()}, {event.status.value}"
    facts = text.facts(event, evidence.plain_lines(event))
    rows = "".join(_fact(name, value, event, colour, drawn=drawn) for name, value in facts)
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


def _fact(name: str, value: str, event: AlertEvent, colour: str, *, drawn: bool) -> str:
    """A row; the course is drawn, and traces are links."""
    values = evidence.course(event)
    if name == evidence.COURSE and values and drawn:
        return _cells(name, f"{_chart(values, colour)}{escape(evidence.summary_of(values))}")
    if name == evidence.TRACES and (traces := evidence.traces(event)):
        return _cells(name, "<br>".join(_link(one.text, one.url) for one in traces))
    if name == evidence.ALSO:
        return _cells(name, "<br>".join(map(escape, value.splitlines())))
    return _row(name, value)


def _chart(values: Sequence[float | None], colour: str) -> str:
    """Bars of table cells with heights: mail programs show neither SVG nor scripts, and images only when asked to."""
    bars = "".join(
        '<td valign="bottom" style="padding:0 1px 0 0">'
        + (
            f'<div style="width:7px;height:{height}px;background:{colour};font-size:0;line-height:0">&nbsp;</div>'
            if height is not None
            else '<div style="width:7px;font-size:0;line-height:0">&nbsp;</div>'
        )
        + "</td>"
        for height in evidence.heights(values, _CHART_HEIGHT)
    )
    return (
        f'<table role="img" aria-label="{escape(evidence.sparkline(values))}" cellpadding="0" cellspacing="0" '
        f'border="0" style="border-bottom:1px solid #adb5bd;margin:2px 0 4px"><tr>{bars}</tr></table>'
    )


def _link(shown: str, url: str) -> str:
    return f'<a href="{escape(url)}">{escape(shown)}</a>' if url else escape(shown)


def _row(name: str, value: str) -> str:
    style = f"{_MONO};font-size:12px;white-space:pre-wrap;" if "\n" in value else ""
    cell = _link(value, text.link(value) if name in ("URL", evidence.PAGE) else "")
    return _cells(name, cell, style)


def _cells(name: str, cell: str, style: str = "") -> str:
    return (
        '<tr><td valign="top" style="padding:2px 16px 2px 0;color:#5c636a;min-width:72px;white-space:nowrap">'
        f"{escape(name)}</td>"
        f'<td valign="top" style="padding:2px 0;overflow-wrap:anywhere;word-break:break-word;{style}">'
        f"{cell}</td></tr>"
    )


def _address(mailbox: Mailbox) -> Address:
    return Address(mailbox.display_name, addr_spec=mailbox.addr_spec)


def _domain(sender: Mailbox) -> str:
    """The right side of message ids: the sender's domain in ASCII, unless it is too long for a line."""
    try:
        domain = sender.domain.encode("idna").decode("ascii")
    except UnicodeError:
        return _FALLBACK_DOMAIN
    return domain if len(domain) <= _DOMAIN_LENGTH else _FALLBACK_DOMAIN


def _id_left(identifier: str) -> str:
    """The left side of a message id: `identifier` if it is valid there, else its hash."""
    if len(identifier) <= _ID_LEFT_LENGTH and re.fullmatch(r"[\w-]+", identifier, re.ASCII):
        return identifier
    return hashlib.sha256(identifier.encode("utf-8", "replace")).hexdigest()[:_ID_LEFT_LENGTH]
