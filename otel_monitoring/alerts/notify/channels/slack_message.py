"""The message of the Slack channels: a summary, then each event with the colour of its severity."""

from collections.abc import Iterator
from typing import Any

from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, Notification, Status
from otel_monitoring.alerts.notify.channels import evidence, text

_COLOURS = {
    AlertSeverity.INFO: "#439fe0",
    AlertSeverity.WARNING: "#daa038",
    AlertSeverity.ERROR: "#e8590c",
    AlertSeverity.CRITICAL: "#c92a2a",
}
_RESOLVED_COLOUR = "#2f9e44"

# Slack's limits: 3000 characters per section, 50 blocks per message (an event is one), 13,200 characters in all blocks
# (`msg_blocks_too_long`). The margins allow for characters that Slack counts twice.
_SECTION_LENGTH = 2800
_SECTIONS_LENGTH = 11_000
_FALLBACK_LENGTH = 2000

_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def message_body(notification: Notification) -> dict[str, Any]:
    """The JSON body. Push notifications and screen readers use `text`; only attachments have colours."""
    shown, hidden = text.shown(notification)
    length = min(_SECTION_LENGTH, _SECTIONS_LENGTH // max(1, len(shown)))
    attachments = [_attachment(event, length) for event in shown]
    if hidden:
        attachments.append({"fallback": f"{hidden} more", "blocks": [_section(f"… and {hidden} more")]})
    origin = text.origin(notification)
    footer = " · ".join(f"*{name}:* {mrkdwn(value, 400)}" for name, value in origin)
    plain = ", ".join(value for _, value in origin)
    attachments.append({"fallback": mrkdwn(plain, _FALLBACK_LENGTH), "blocks": [_section(footer)]})
    return {"text": mrkdwn(text.first_line(notification), _FALLBACK_LENGTH), "attachments": attachments}


def _attachment(event: AlertEvent, length: int) -> dict[str, Any]:
    resolved = event.status is Status.RESOLVED
    return {
        "color": _RESOLVED_COLOUR if resolved else _COLOURS[event.severity],
        "fallback": mrkdwn(text.headline(event), _FALLBACK_LENGTH),
        "blocks": [_section("\n".join(_lines(event, length)))],
    }


def _lines(event: AlertEvent, length: int) -> Iterator[str]:
    """The lines of a section of at most `length` characters: the headline, the facts that fit, the runbook."""
    runbook = text.link(event.runbook)
    first = f"*{mrkdwn(text.headline(event), min(700, length // 2))}*"
    page = evidence.page(event)
    links = [("Runbook", runbook), ("Status page", page)]
    short = [(name, url) for name, url in links if url and len(url) <= min(500, length // 4)]
    last = " · ".join(f"<{mrkdwn(url, 600)}|{name}>" for name, url in short)
    room = length - len(first) - len(last) - 2
    yield first
    for name, value in text.facts(event, evidence.facts(event)):
        quoted = f"\n```{mrkdwn(text.tail(value, 900), 1200)}```" if "\n" in value else f" {mrkdwn(value, 500)}"
        line = f"*{mrkdwn(name, 100)}:*{quoted}"
        if len(line) < room:
            room -= len(line) + 1
            yield line
    for one in evidence.traces(event):
        line = f"*Trace:* {_link(one)}"
        if len(line) < room:
            room -= len(line) + 1
            yield line
    if last:
        yield last


def _link(one: evidence.Link) -> str:
    shown = mrkdwn(one.text, 300)
    return f"<{mrkdwn(one.url, 900)}|{shown.replace('|', '/')}>" if one.url else shown


def _section(body: str) -> dict[str, Any]:
    """A block of mrkdwn. `verbatim` keeps Slack from making links and mentions of names and addresses in it."""
    return {"type": "section", "text": {"type": "mrkdwn", "text": body, "verbatim": True}}


def mrkdwn(plain: str, limit: int) -> str:
    """`plain` with Slack's three control characters escaped, so that it contains no mention and no link.

    The result has at most `limit` characters; an escape is never cut.
    """
    escaped: list[str] = []
    length = 0
    for character in plain:
        part = _ESCAPES.get(character, character)
        length += len(part)
        if length > limit - 1:
            return "".join(escaped) + "…"
        escaped.append(part)
    return "".join(escaped)
