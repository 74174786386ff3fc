"""`ErrorRecorder`: the failed requests of this process in groups; `errors_as_json`: those of the service, answered."""

import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from traceback import StackSummary, walk_tb
from typing import Any, Final
from urllib.parse import urlsplit

from opentelemetry import trace

from otel_monitoring.forks import renewed
from otel_monitoring.metrics.error_groups import GROUPS_LIMIT, ErrorGroup, ErrorKey
from otel_monitoring.metrics.outcome import OutcomeClassifier, RequestOutcome
from otel_monitoring.metrics.window import Window
from otel_monitoring.redact import error_text, redact, redact_lines, redact_name
from otel_monitoring.semconv import (
    ERROR_TYPE,
    HTTP_REQUEST_METHOD,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
    HTTP_SERVER_REQUEST_DURATION,
    UNMATCHED_ROUTE,
    error_type,
)
from otel_monitoring.timestamps import rfc3339

NEW_SECONDS: Final = 86_400.0
"""How long a group is marked as new."""
_FORGOTTEN_SECONDS = 30 * 86_400.0
_FRAMES = 12
_STACK_LENGTH = 2400
_CAUSES = 5


class _Pending:
    """A group that was not published yet. Its stack is formatted and redacted when it is published."""

    __slots__ = ("count", "first", "frames", "last", "text", "trace_id")

    def __init__(self, now: float) -> None:
        self.count = 0
        self.first = self.last = now
        self.frames: StackSummary | None = None
        self.text = ""
        self.trace_id = 0


class ErrorRecorder:
    """Groups failed requests by the type of their exception and their route; usable in any thread.

    A failure costs a look-up; the first one of a group also keeps file, line and function of the innermost frames.

    Attributes:
        peers: The hosts that failed requests were waiting for, as their exceptions say.
    """

    def __init__(self) -> None:
        self._lock = renewed(self, "_lock", threading.Lock)
        self._pending: dict[ErrorKey, _Pending] = renewed(self, "_pending", dict)
        self._described: set[ErrorKey] = renewed(self, "_described", set)
        self.peers: dict[ErrorKey, str] = renewed(self, "peers", dict)

    def note(self, method: str, route: str | None, status: int | None, error: BaseException | None, now: float) -> None:
        """Count a failed request.

        Args:
            method: The request's method.
            route: The request's route; None: the path matched no route.
            status: The response's status; None: there was no response.
            error: The exception that was raised; None if it is not known.
            now: Unix seconds.
        """
        key = error_type(error) if error is not None else f"HTTP {status}", f"{method} {route or UNMATCHED_ROUTE}"
        trace_id = trace.get_current_span().get_span_context().trace_id
        with self._lock:
            group = self._pending.get(key)
            if group is None:
                if len(self._pending) >= GROUPS_LIMIT:
                    return
                group = self._pending[key] = _Pending(now)
                if error is not None and key not in self._described:
                    self._describe(group, key, error)
            group.count += 1
            group.last = now
            group.trace_id = trace_id or group.trace_id

    def _describe(self, group: _Pending, key: ErrorKey, error: BaseException) -> None:
        if len(self._described) >= GROUPS_LIMIT:
            self._described.clear()
            self.peers.clear()
        self._described.add(key)
        # Sources are not read here, and no frame is kept alive.
        group.frames = StackSummary.extract(walk_tb(error.__traceback__), limit=-_FRAMES, lookup_lines=False)
        group.text = error_text(error)
        if (host := _peer_of(error)) is not None:
            self.peers[key] = host

    def take(self, version: str | None) -> list[ErrorGroup]:
        """The groups since the last call.

        Args:
            version: The `service.version` of this process.
        """
        with self._lock:
            pending, self._pending = self._pending, {}
        return [
            ErrorGroup(
                type=redact_name(key[0]),
                route=redact_name(key[1]),
                count=group.count,
                first=group.first,
                last=group.last,
                version=version and redact_name(version),
                stack=_stack_of(group),
                trace_id=trace.format_trace_id(group.trace_id) if group.trace_id else None,
            )
            for key, group in pending.items()
        ]


def _peer_of(error: BaseException) -> str | None:
    """The host that an exception of httpx, requests or aiohttp is about, or one that it was raised from."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen and len(seen) < _CAUSES:
        seen.add(id(found))
        with suppress(Exception):  # `request` of httpx raises where there is none
            url = urlsplit(str(found.request.url))  # type: ignore[attr-defined]
            if url.hostname:
                return url.hostname if url.port is None else f"{url.hostname}:{url.port}"
        with suppress(Exception):
            return f"{found.host}:{found.port}"  # type: ignore[attr-defined]
        found = found.__cause__ or found.__context__
    return None


def _stack_of(group: _Pending) -> str:
    if group.frames is None:
        return ""
    frames = redact_lines("".join(group.frames.format()).rstrip("\n"), limit=_STACK_LENGTH)
    return f"{frames}\n{redact(group.text)}" if frames else redact(group.text)


def failures(window: Window, classify: OutcomeClassifier) -> dict[ErrorKey, int]:
    """How many requests of a window failed, by what their groups are about.

    Args:
        window: The window.
        classify: Which requests are errors.
    """
    found: dict[ErrorKey, int] = {}
    for series, histogram in window.histograms(HTTP_SERVER_REQUEST_DURATION):
        if classify(series) is not RequestOutcome.ERROR:
            continue
        status, kind = series.get(HTTP_RESPONSE_STATUS_CODE), series.get(ERROR_TYPE)
        name = f"HTTP {status}" if kind is None or str(kind) == str(status) else str(kind)
        route = f"{series.get(HTTP_REQUEST_METHOD)} {series.get(HTTP_ROUTE) or UNMATCHED_ROUTE}"
        key = redact_name(name), redact_name(route)
        found[key] = found.get(key, 0) + histogram.count
    return found


def errors_as_json(
    groups: Iterable[ErrorGroup], now: float, counts: Mapping[ErrorKey, int] | None = None
) -> list[dict[str, Any]]:
    """The documented list: new groups first, then those that were seen last; nothing older than 30 days.

    Args:
        groups: The groups of the service, or of this process.
        now: Unix seconds.
        counts: How many requests failed in the service, where `groups` are of this process; None: as the groups say.
    """
    counts = counts or {}
    shown = {group.key: group for group in groups if group.last > now - _FORGOTTEN_SECONDS}
    ordered = sorted(shown.values(), key=lambda group: (not _is_new(group, now), -group.last))
    # Of others it is not known when they failed, and how.
    others = sorted(counts.keys() - shown.keys(), key=lambda key: -counts[key])[: GROUPS_LIMIT - len(shown)]
    unknown = {"first_seen": None, "last_seen": None, "new": False, "version": None, "stack": "", "trace_id": None}
    return [
        *({**_as_json(group, now), "count": counts.get(group.key, group.count)} for group in ordered),
        *({"type": kind, "route": route, "count": counts[kind, route], **unknown} for kind, route in others),
    ]


def _as_json(group: ErrorGroup, now: float) -> dict[str, Any]:
    return {
        "type": group.type,
        "route": group.route,
        "count": group.count,
        "first_seen": rfc3339(group.first),
        "last_seen": rfc3339(group.last),
        "new": _is_new(group, now),
        "version": group.version,
        "stack": group.stack,
        "trace_id": group.trace_id,
    }


def _is_new(group: ErrorGroup, now: float) -> bool:
    return group.first > now - NEW_SECONDS
