"""What an alert is: its type, its severity, the event that is kept and delivered, and the mute that silences it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import islice
from types import MappingProxyType
from typing import Any

from otel_monitoring.redact import REPLACED, is_secret, printable, redact, text_of
from otel_monitoring.redact.json_value import jsonable
from otel_monitoring.timestamps import rfc3339

_LABELS = 20
_LABEL_LENGTH = 500
_PLACES = frozenset({"host", "instance"})
"""Labels whose values tell machines and processes apart: names that look like secrets must not become one."""


class AlertType(str, Enum):
    """The documented alert types; then what else the default rules watch, and whatever an application names itself."""

    DATABASE_DOWN = "database_down"
    DATABASE_SLOW = "database_slow"
    HIGH_ERROR_RATE = "high_error_rate"
    HIGH_CPU = "high_cpu"
    HIGH_MEMORY = "high_memory"
    API_TIMEOUT = "api_timeout"
    BILLING_FAILURE = "billing_failure"
    DELIVERY_ISSUE = "delivery_issue"
    SECURITY_ALERT = "security_alert"
    EVENT_LOOP_BLOCKED = "event_loop_blocked"
    DATABASE_POOL_EXHAUSTED = "database_pool_exhausted"
    DATABASE_ERROR = "database_error"
    CHECK_FAILED = "check_failed"
    CUSTOM = "custom"


class AlertSeverity(str, Enum):
    """How urgent an alert is, in rising order."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Its place in that order, from 0."""
        return tuple(AlertSeverity).index(self)


DEFAULT_SEVERITY: Mapping[AlertType, AlertSeverity] = MappingProxyType(
    {
        AlertType.DATABASE_DOWN: AlertSeverity.CRITICAL,
        AlertType.DATABASE_SLOW: AlertSeverity.WARNING,
        AlertType.HIGH_ERROR_RATE: AlertSeverity.WARNING,
        AlertType.HIGH_CPU: AlertSeverity.WARNING,
        AlertType.HIGH_MEMORY: AlertSeverity.WARNING,
        AlertType.API_TIMEOUT: AlertSeverity.WARNING,
        AlertType.BILLING_FAILURE: AlertSeverity.CRITICAL,
        AlertType.DELIVERY_ISSUE: AlertSeverity.ERROR,
        AlertType.SECURITY_ALERT: AlertSeverity.CRITICAL,
        AlertType.EVENT_LOOP_BLOCKED: AlertSeverity.WARNING,
        AlertType.DATABASE_POOL_EXHAUSTED: AlertSeverity.ERROR,
        AlertType.DATABASE_ERROR: AlertSeverity.ERROR,
        AlertType.CHECK_FAILED: AlertSeverity.WARNING,
        AlertType.CUSTOM: AlertSeverity.WARNING,
    }
)
"""The documented severity of each type."""


class Status(str, Enum):
    """Whether an event says that something is wrong, or that it is over."""

    FIRING = "firing"
    RESOLVED = "resolved"


class Outcome(str, Enum):
    """What became of an alert that was raised."""

    NOTIFIED = "notified"
    SUPPRESSED = "suppressed"
    """The same alert was notified less than five minutes before."""
    MUTED = "muted"
    INHIBITED = "inhibited"
    """Another alert that fires explains it."""


class Arrival(str, Enum):
    """Where an alert stands on its way through one channel; `suppressed`, `muted`, `inhibited`: as its outcome says."""

    WAITING = "waiting"
    RETRYING = "retrying"
    DELIVERED = "delivered"
    SUPERSEDED = "superseded"
    """A later word about the same incident was delivered in its place."""
    GIVEN_UP = "given up"
    SUPPRESSED = Outcome.SUPPRESSED.value
    MUTED = Outcome.MUTED.value
    INHIBITED = Outcome.INHIBITED.value

    @property
    def final(self) -> bool:
        """Whether nothing more becomes of it."""
        return self not in (Arrival.WAITING, Arrival.RETRYING)


@dataclass(frozen=True, slots=True)
class ChannelResult:
    """What became of an alert on one channel.

    Attributes:
        state: Where it stands.
        at: When it was delivered or given up, in Unix seconds.
        attempts: How often delivering it was tried.
        next_attempt: When it is tried again, in Unix seconds.
        error: Why it was not delivered, in one line without secrets, or empty.
    """

    state: Arrival
    at: float | None = None
    attempts: int = 0
    next_attempt: float | None = None
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """`state`; where there is something to say also `at`, `attempts`, `next_attempt` (RFC 3339), `error`."""
        further = {
            "at": rfc3339(self.at) if self.at is not None else "",
            "attempts": self.attempts,
            "next_attempt": rfc3339(self.next_attempt) if self.next_attempt is not None else "",
            "error": self.error,
        }
        return {"state": self.state.value, **{key: value for key, value in further.items() if value}}


LEFT_OUT = "otel_monitoring.left_out"
"""In place of a rule's name, which has no dot: an event that says how many others were left out."""


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """One alert, as it stands in the history and as channels get it.

    Attributes:
        time: When it was raised, or when it was over, in Unix seconds.
        type: What it is about.
        severity: How urgent it is.
        message: One line for people.
        details: JSON-serialisable values that help to understand it.
        outcome: Whether it was notified, or why not.
        status: `firing`; `resolved` for the end of an alert that a rule raised.
        labels: What it is about within its type, e.g. `{"endpoint": "/api/orders/"}`; with the type its identity.
        rule: The rule that raised it; empty when the application did, with `send_alert`.
        incident: The same for everything that is said about one incident, from its firing to its end.
        since: When the incident began, in Unix seconds; None: at `time`.
        runbook: A link to what to do about it, or empty.
        trace_id: The trace of the request that raised it, in hexadecimal, or empty.
        channels: In the history: what became of it on each channel, by the channel's name.
    """

    time: float
    type: AlertType
    severity: AlertSeverity
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)
    outcome: Outcome = Outcome.NOTIFIED
    status: Status = Status.FIRING
    labels: Mapping[str, str] = field(default_factory=dict)
    rule: str = ""
    incident: str = ""
    since: float | None = None
    runbook: str = ""
    trace_id: str = ""
    channels: Mapping[str, ChannelResult] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """The same for what the history and the outbox have of it; in the order of time."""
        return f"{self.time!r}/{self.status.value}/{self.incident}"

    @property
    def is_under_way(self) -> bool:
        """Whether a channel has still to deliver it."""
        return any(not result.state.final for result in self.channels.values())

    @property
    def stands_for_others(self) -> bool:
        """Whether it says how many were left out of a full outbox, and is no alert itself."""
        return self.rule == LEFT_OUT

    def readable(self) -> "AlertEvent":
        """The same, fit for every reader: each text a printable line without secrets, the details bounded JSON."""
        told = jsonable(self.details)
        details = told if isinstance(told, dict) else {"details": told} if told is not None else {}
        return replace(
            self,
            message=redact(self.message),
            details=details,
            labels=readable_labels(self.labels),
            runbook=printable(text_of(self.runbook)),
            trace_id=printable(text_of(self.trace_id)),
        )

    def as_json(self) -> dict[str, Any]:
        """The documented form: `timestamp`, `type`, `message`, `severity`; `details`, `outcome`, `status`, `labels`.

        Where there is something to say also `rule`, `incident`, `since`, `runbook_url`, `trace_id`, and `channels`: by
        each channel's name `ChannelResult.as_json`.
        """
        answer: dict[str, Any] = {
            "timestamp": rfc3339(self.time),
            "type": self.type.value,
            "message": self.message,
            "severity": self.severity.value,
            "details": dict(self.details),
            "outcome": self.outcome.value,
            "status": self.status.value,
            "labels": dict(self.labels),
        }
        further = {
            "rule": self.rule,
            "incident": self.incident,
            "since": rfc3339(self.since) if self.since is not None else "",
            "runbook_url": self.runbook,
            "trace_id": self.trace_id,
            "channels": {name: result.as_json() for name, result in self.channels.items()},
        }
        return {**answer, **{key: value for key, value in further.items() if value}}

    def waits_for(
        self, channels: Collection[str], others: Collection[str] = (), written: Collection[str] = ()
    ) -> "AlertEvent":
        """The same as the history has it.

        Args:
            channels: It waits for these.
            others: Its outcome, if it was not notified, keeps it from these.
            written: These have it at once.
        """
        kept = others if self.outcome is not Outcome.NOTIFIED else ()
        states = {name: ChannelResult(Arrival(self.outcome.value)) for name in kept}
        states |= {name: ChannelResult(Arrival.DELIVERED, at=self.time, attempts=1) for name in written}
        states |= {name: ChannelResult(Arrival.WAITING) for name in channels}
        return replace(self, channels=states)


@dataclass(frozen=True, slots=True)
class Notification:
    """What a channel delivers in one message: the alerts that are due together.

    Attributes:
        id: The same for every attempt to deliver these events: receivers may recognise a repetition by it.
        events: At least one, oldest first; firing and resolved ones may stand side by side.
        service: `service.name` of what is watched.
        environment: `deployment.environment.name`, or empty.
        version: `service.version`, or empty.
        host: The name of the host that it runs on, or empty.
        url: Where people reach it, or empty.
    """

    id: str
    events: tuple[AlertEvent, ...]
    service: str
    environment: str = ""
    version: str = ""
    host: str = ""
    url: str = ""

    def latest(self) -> "Notification":
        """The same without what is out of date: of each incident the last word, as after a mail server's own outage."""
        last = {event.incident: event for event in self.events}
        return replace(self, events=tuple(e for e in self.events if not e.incident or e is last[e.incident]))

    @property
    def severity(self) -> AlertSeverity:
        """The highest severity among what still fires; where all is over, among everything."""
        firing = [event for event in self.events if event.status is Status.FIRING] or self.events
        return max((event.severity for event in firing), key=lambda severity: severity.rank)

    @property
    def status(self) -> Status:
        """`resolved` when every event says so."""
        return Status.FIRING if any(event.status is Status.FIRING for event in self.events) else Status.RESOLVED


@dataclass(frozen=True, slots=True)
class Mute:
    """Alerts of one type, or those of them that have all of some labels, go to the history only.

    Attributes:
        type: The type that is muted.
        until: When it ends, in Unix seconds.
        labels: Labels an alert must have to be muted; empty: every alert of the type.
        author: Who muted it.
        reason: Why.
    """

    type: AlertType
    until: float
    labels: Mapping[str, str] = field(default_factory=dict)
    author: str = ""
    reason: str = ""

    def covers(self, kind: AlertType, labels: Mapping[str, str]) -> bool:
        """Whether an alert of this type with these labels is muted by it."""
        if kind is not self.type:
            return False
        return self.labels.items() <= labels.items() or self.labels.items() <= readable_labels(labels).items()

    def as_json(self) -> dict[str, Any]:
        """`type`, `until` (RFC 3339), `labels`, `author`, `reason`."""
        return {
            "type": self.type.value,
            "until": rfc3339(self.until),
            "labels": dict(self.labels),
            "author": self.author,
            "reason": self.reason,
        }


def title(kind: str, rule: str = "") -> str:
    """What people call an alert: its type as documented (`DATABASE_DOWN`), or the rule's name where that says nothing.

    Args:
        kind: The type's value, as machines have it: `database_down`.
        rule: The rule that raised it, or empty.
    """
    return rule if rule and kind == AlertType.CUSTOM.value else kind.upper()


def readable_labels(labels: object) -> dict[str, str]:
    """Labels as people may read them: at most 20, each a printable line without secrets; never raises.

    Args:
        labels: A mapping; anything else has no labels.
    """
    try:
        pairs = list(islice(dict(labels).items(), _LABELS))  # type: ignore[call-overload] # whatever it is
    except BaseException:  # noqa: BLE001 - an application's own mapping may raise anything
        return {}
    named = [(redact(key, limit=100), value) for key, value in pairs]
    return {name: _label(name, value) for name, value in named}


def _label(name: str, value: object) -> str:
    if name in _PLACES:
        return printable(text_of(value)[:_LABEL_LENGTH])
    return REPLACED if is_secret(name) else redact(value, limit=_LABEL_LENGTH)


def duration(seconds: float) -> str:
    """A time span in its two largest units: `45 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    rest = max(0, round(seconds))
    units = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    parts = []
    for name, size in units:
        count, rest = divmod(rest, size)
        parts.append((count, name))
    first = next((i for i, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {name}" for count, name in parts[first : first + 2] if count) or "0 s"
