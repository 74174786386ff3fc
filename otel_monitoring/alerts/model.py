"""The alert model: types and severities, the event that is recorded and delivered, and notifications."""

import re
from collections.abc import Collection, Mapping
from dataclasses import field, replace
from enum import Enum
from itertools import islice
from types import MappingProxyType
from typing import Any

from otel_monitoring.redact import REPLACED, is_secret, printable, redact, text_of
from otel_monitoring.timestamps import rfc3339
from otel_monitoring.value import Value

OWN_TYPES_LIMIT = 100
"""The most alert types of the application's own: each is a value of an attribute of metrics."""

_TYPE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_own_types: "dict[str, AlertType]" = {}
_LABELS_LIMIT = 20
_LABEL_LENGTH = 500
_PLACE_LABELS = frozenset({"host", "instance"})
"""Labels whose values are not redacted: hosts and processes with names like secrets must stay distinct."""


class AlertType(str, Enum):
    """The documented alert types, further ones of the default rules, and those that an application names itself.

    `AlertType("order_stuck")` is a type of the application's own: its name has lower case letters, digits and
    underscores, and at most 64 characters. There are at most `OWN_TYPES_LIMIT` in a process; any further one is
    `custom`. Iteration has the types that are listed here.

    Raises:
        ValueError: The name has another form.
    """

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
    ERROR_BUDGET = "error_budget"
    TELEMETRY_LOST = "telemetry_lost"
    CUSTOM = "custom"

    @classmethod
    def _missing_(cls, value: object) -> "AlertType | None":
        if not isinstance(value, str) or not _TYPE_NAME.fullmatch(value):
            return None
        if value not in _own_types:
            if len(_own_types) >= OWN_TYPES_LIMIT:
                return cls.CUSTOM
            own = str.__new__(cls, value)
            own._name_, own._value_ = value.upper(), value
            _own_types.setdefault(value, own)
        return _own_types[value]


class AlertSeverity(str, Enum):
    """How urgent an alert is, in rising order."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Its position in the rising order, from 0."""
        return tuple(AlertSeverity).index(self)


def own_types() -> list[AlertType]:
    """The application's own alert types that this process knows, in the order of their first use."""
    return list(_own_types.values())


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
        AlertType.TELEMETRY_LOST: AlertSeverity.WARNING,
        AlertType.DATABASE_POOL_EXHAUSTED: AlertSeverity.ERROR,
        AlertType.DATABASE_ERROR: AlertSeverity.ERROR,
        AlertType.CHECK_FAILED: AlertSeverity.WARNING,
        AlertType.ERROR_BUDGET: AlertSeverity.CRITICAL,
        AlertType.CUSTOM: AlertSeverity.WARNING,
    }
)
"""The documented severity of each type; a type of the application's own has that of `custom`."""


def severity_of(kind: AlertType) -> AlertSeverity:
    """The severity of the alerts of a type, where nothing else is said."""
    return DEFAULT_SEVERITY.get(kind, DEFAULT_SEVERITY[AlertType.CUSTOM])


class Status(str, Enum):
    """The status of an event, with Prometheus' names."""

    FIRING = "firing"
    ACKNOWLEDGED = "acknowledged"
    """Somebody takes care of it. It still fires."""
    RESOLVED = "resolved"


class Outcome(str, Enum):
    """Whether an alert was notified, or why not."""

    NOTIFIED = "notified"
    SUPPRESSED = "suppressed"
    """The same alert was notified less than five minutes before, or was acknowledged."""
    MUTED = "muted"
    INHIBITED = "inhibited"
    """A firing alert explains it."""
    DRY_RUN = "dry_run"
    """Its rule is tried out."""


class DeliveryState(str, Enum):
    """The state of an alert on one channel; the last four repeat the `Outcome` of an alert that is not delivered."""

    WAITING = "waiting"
    RETRYING = "retrying"
    DELIVERED = "delivered"
    SUPERSEDED = "superseded"
    """A later event of the same incident was delivered in its place."""
    GIVEN_UP = "given up"
    SUPPRESSED = Outcome.SUPPRESSED.value
    MUTED = Outcome.MUTED.value
    INHIBITED = Outcome.INHIBITED.value
    DRY_RUN = Outcome.DRY_RUN.value

    @property
    def final(self) -> bool:
        """Whether the state stays as it is."""
        return self not in (DeliveryState.WAITING, DeliveryState.RETRYING)


class ChannelResult(Value):
    """The delivery of an alert on one channel.

    Attributes:
        state: Its state.
        at: When it was delivered or given up, in Unix seconds.
        attempts: The number of attempts.
        next_attempt: When the next attempt is due, in Unix seconds.
        error: Why the last attempt failed, in one line without secrets, or empty.
    """

    state: DeliveryState
    at: float | None = None
    attempts: int = 0
    next_attempt: float | None = None
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """`state`, and those of `at`, `attempts`, `next_attempt` and `error` that are set; times as RFC 3339."""
        further = {
            "at": rfc3339(self.at) if self.at is not None else "",
            "attempts": self.attempts,
            "next_attempt": rfc3339(self.next_attempt) if self.next_attempt is not None else "",
            "error": self.error,
        }
        return {"state": self.state.value, **{key: value for key, value in further.items() if value}}


class Acknowledgement(Value):
    """That somebody takes care of an alert.

    Attributes:
        at: Since when, in Unix seconds.
        author: Who.
        reason: What is done, or why nothing has to be.
    """

    at: float
    author: str = ""
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        """`author`, `reason`, `at` (RFC 3339)."""
        return {"author": self.author, "reason": self.reason, "at": rfc3339(self.at)}


LEFT_OUT = "otel_monitoring.left_out"
"""The `rule` of an event that counts the alerts left out of a full outbox; no rule's name has a dot."""


class AlertEvent(Value):
    """One event of an alert, as the history records it and channels deliver it.

    Attributes:
        time: When the alert started to fire or resolved, in Unix seconds.
        type: The alert type.
        severity: The severity.
        message: One line for people.
        details: JSON-serialisable values that help to understand it.
        outcome: Whether it was notified, or why not.
        status: `firing`; `acknowledged`; or `resolved` for the end of a rule's alert.
        labels: The alert's identity within its type, e.g. `{"endpoint": "/api/orders/"}`.
        rule: The name of the rule; empty for an alert of `send_alert`.
        incident: The incident's id; all events of an incident share it.
        since: When the incident started, in Unix seconds; None: at `time`.
        runbook: A link to the runbook, or empty.
        trace_id: The trace in which it was raised, in hexadecimal, or empty.
        channels: In the history: the delivery on each channel, by the channel's name.
        acknowledged: Who takes care of it, where it is acknowledged.
        dedup_key: What identifies repetitions of an application's alert in place of the message, or empty.
        evidence: What changed, as JSON: printable texts without secrets, see `evidence.collector`.
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
    acknowledged: Acknowledgement | None = None
    dedup_key: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """The key that history and outbox share; sorts by time."""
        return f"{self.time!r}/{self.status.value}/{self.incident}"

    @property
    def is_undelivered(self) -> bool:
        """Whether a channel still has to deliver it."""
        return any(not result.state.final for result in self.channels.values())

    @property
    def is_overflow_notice(self) -> bool:
        """Whether it is the notice that counts the alerts left out of a full outbox, and no alert."""
        return self.rule == LEFT_OUT

    def readable(self) -> "AlertEvent":
        """The same in a form that is safe to show: texts are printable lines without secrets, details bounded JSON."""
        from otel_monitoring.redact.json_value import jsonable  # a service without alerts needs it not

        value = jsonable(self.details)
        details = value if isinstance(value, dict) else {"details": value} if value is not None else {}
        return replace(
            self,
            message=redact(self.message),
            details=details,
            labels=readable_labels(self.labels),
            runbook=printable(text_of(self.runbook)),
            trace_id=printable(text_of(self.trace_id)),
        )

    def as_json(self) -> dict[str, Any]:
        """The documented JSON: `timestamp`, `type`, `message`, `severity`, `details`, `outcome`, `status`, `labels`.

        Also those of `rule`, `incident`, `since`, `runbook_url`, `trace_id`, `evidence`, `acknowledged`
        (`Acknowledgement.as_json`) and `channels` that are set; `channels` has `ChannelResult.as_json` by the channel's
        name. Times as RFC 3339.
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
            "evidence": dict(self.evidence),
            "acknowledged": self.acknowledged.as_json() if self.acknowledged is not None else None,
            "channels": {name: result.as_json() for name, result in self.channels.items()},
        }
        return {**answer, **{key: value for key, value in further.items() if value}}

    def as_history_entry(
        self, channels: Collection[str], others: Collection[str] = (), written: Collection[str] = ()
    ) -> "AlertEvent":
        """The same with its state on each channel, for the history.

        Args:
            channels: The channels that will deliver it.
            others: The channels that do not get it where its outcome is another than notified.
            written: The channels that have it already.
        """
        withheld = others if self.outcome is not Outcome.NOTIFIED else ()
        states = {name: ChannelResult(DeliveryState(self.outcome.value)) for name in withheld}
        states |= {name: ChannelResult(DeliveryState.DELIVERED, at=self.time, attempts=1) for name in written}
        states |= {name: ChannelResult(DeliveryState.WAITING) for name in channels}
        return replace(self, channels=states)


class Notification(Value):
    """One message of a channel: the events that are due together.

    Attributes:
        id: Constant over all attempts to deliver these events, so that receivers can drop repetitions.
        events: At least one event, oldest first; firing and resolved ones may be mixed.
        service: `service.name` of the monitored service.
        environment: `deployment.environment.name`, or empty.
        version: `service.version`, or empty.
        host: The name of the service's host, or empty.
        url: The public URL of the service, or empty.
        title: The template of the first line for people; empty: each channel has its own.
    """

    id: str
    events: tuple[AlertEvent, ...]
    service: str
    environment: str = ""
    version: str = ""
    host: str = ""
    url: str = ""
    title: str = ""

    def latest(self) -> "Notification":
        """The same with only the last event of each incident; earlier ones are out of date, as after an outage."""
        last = {event.incident: event for event in self.events}
        return replace(self, events=tuple(e for e in self.events if not e.incident or e is last[e.incident]))

    @property
    def severity(self) -> AlertSeverity:
        """The highest severity of the firing events; of all events where none fires."""
        firing = [event for event in self.events if event.status is Status.FIRING] or self.events
        return max((event.severity for event in firing), key=lambda severity: severity.rank)

    @property
    def status(self) -> Status:
        """`firing` if one of the events is, else `acknowledged` if one is, else `resolved`."""
        found = {event.status for event in self.events}
        return next(status for status in Status if status in found or status is Status.RESOLVED)


def title(kind: str, rule: str = "") -> str:
    """The name of an alert for people: its type in capitals (`DATABASE_DOWN`), for a custom type the rule's name.

    Args:
        kind: The value of the type, e.g. `database_down`.
        rule: The name of the rule, or empty.
    """
    return rule if rule and kind == AlertType.CUSTOM.value else kind.upper()


def readable_labels(labels: object) -> dict[str, str]:
    """Labels in a form that is safe to show: at most 20, each a printable line without secrets; never raises.

    Args:
        labels: A mapping; anything else gives no labels.
    """
    try:
        pairs = list(islice(dict(labels).items(), _LABELS_LIMIT))  # type: ignore[call-overload] # anything
    except BaseException:  # noqa: BLE001 - an application's own mapping may raise anything
        return {}
    named = [(redact(key, limit=100), value) for key, value in pairs]
    return {name: _label(name, value) for name, value in named}


def _label(name: str, value: object) -> str:
    if name in _PLACE_LABELS:
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
