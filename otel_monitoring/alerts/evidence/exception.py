"""`exception_of`: the group of failed requests that an alert is about, with the place in the application's code."""

import re
from typing import Any

from otel_monitoring.alerts.evidence.circumstances import Circumstances
from otel_monitoring.alerts.evidence.places import place_in
from otel_monitoring.metrics.error_groups import ErrorGroup
from otel_monitoring.metrics.outcome import RequestOutcome

_VALUE = re.compile(r"0x[0-9a-fA-F]+|[0-9a-fA-F]{8,}(?:-[0-9a-fA-F]{4,})*|\d+(?:\.\d+)*")
_MESSAGE_LENGTH = 200


def exception_of(about: Circumstances, route: str = "") -> dict[str, Any] | None:
    """The group with the most failed requests lately, as JSON; None: there is none, or it has no exception.

    It has `type`, `message` (its values replaced by `…`), `place`, `request`, and `new_in` where a version is known in
    which it was first seen.

    Args:
        about: What is known.
        route: The route of the requests; empty: any.
    """
    failed: dict[tuple[str, str], float] = {}
    for key, cell in about.lately.requests.items():
        if about.classify(key.series) is RequestOutcome.ERROR and (not route or key.route == route):
            request = f"{key.method} {key.route}"
            failed[key.cause, request] = failed.get((key.cause, request), 0.0) + cell.number
            if key.cause.isdigit():  # a handler has turned the exception into a response
                for group in about.errors.values():
                    if group.route == request and group.last >= about.now - about.window:
                        failed[group.key] = failed.get(group.key, 0.0) + cell.number
    groups = [one for key in failed if (one := about.errors.get(key)) is not None and one.stack]
    if not groups:
        return None
    return _as_json(max(groups, key=lambda one: (failed[one.key], one.last)))


def _as_json(group: ErrorGroup) -> dict[str, Any]:
    lines = group.stack.rstrip().rpartition("\n")
    found = {
        "type": group.type,
        "message": shape_of(lines[2])[:_MESSAGE_LENGTH],
        "place": place_in(group.stack),
        "request": group.route,
        "new_in": group.version or "",
    }
    return {name: value for name, value in found.items() if value}


def shape_of(message: str) -> str:
    """A message without the values that differ from one occurrence to the next."""
    return _VALUE.sub("…", message)
