"""`NotificationPolicy`, and whether an alert is muted or inhibited."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from otel_monitoring.alerts.evaluation.incident import state_key
from otel_monitoring.alerts.model import AlertEvent, AlertType
from otel_monitoring.alerts.mute import Mute, in_force
from otel_monitoring.alerts.route import Route
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.alerts.selection import Selectable
from otel_monitoring.alerts.store.mutes import Mutes
from otel_monitoring.alerts.store.notes import Notes


def is_recent(then: float | None, now: float, seconds: float) -> bool:
    """Whether `then` is at most `seconds` before `now`; False for None, and for a time in the future.

    A time in the future was written before the clock was set back.
    """
    return then is not None and 0 <= now - then < seconds


def is_muted(mutes: Iterable[Mute], alert: Selectable) -> bool:
    """Whether one of `mutes`, which are in force, covers `alert`."""
    return any(mute.covers(alert) for mute in mutes)


def inhibited_types(
    notes: Notes, rules: Iterable[Rule], firing: Collection[str], now: float, window: float
) -> frozenset[AlertType]:
    """The alert types that are inhibited now.

    A rule inhibits its types while it fires, and for one window after its end: until then the window still contains
    the consequences.

    Args:
        notes: Hold the ends that `note_inhibition_ended` noted.
        rules: The rules.
        firing: The names of the firing rules.
        now: Unix seconds.
        window: Seconds that the rules look back.
    """
    inhibited: set[AlertType] = set()
    for rule in rules:
        if rule.inhibits:
            ended = None if rule.name in firing else notes.noted_at(_end_key(rule))
            if rule.name in firing or is_recent(ended, now, window):
                inhibited |= rule.inhibits
    return frozenset(inhibited)


def note_inhibition_ended(notes: Notes, rule: Rule, now: float) -> None:
    """Note that an inhibiting `rule` stopped firing at `now`, in Unix seconds."""
    notes.note(_end_key(rule), now)


def _end_key(rule: Rule) -> str:
    return f"ended:{rule.name}"


def yields(notes: Notes, rule: Rule, labels: Mapping[str, str], firing: Collection[str], now: float) -> bool:
    """Whether an alert of `rule` is explained by one of a rule that it yields to, with the same labels.

    Args:
        notes: Hold the ends that `note_end` noted.
        rule: The rule.
        labels: The labels of its alert.
        firing: The keys of the firing alerts.
        now: Unix seconds.
    """
    keys = [state_key(name, labels) for name in rule.yields_to]
    return any(key in firing or is_recent(notes.noted_at(_ended(key)), now, rule.yields_for) for key in keys)


def note_end(notes: Notes, key: str, now: float) -> None:
    """Note that the alert with this key stopped firing at `now`, in Unix seconds."""
    notes.note(_ended(key), now)


def _ended(key: str) -> str:
    return f"alert ended:{key}"


class NotificationPolicy(NamedTuple):
    """Where and how often alerts are notified.

    Attributes:
        channels: The channels that send from the outbox.
        repeat_interval: Seconds until an alert that still fires is notified again.
        window: Seconds that the rules look back.
        holding: Those of `channels` whose receiver holds an alert until it is resolved, as the Alertmanager does.
        at_once: The channels that write an event where it happens, past the outbox.
        routes: Which alerts go to which of `channels`.
        muted_elsewhere: Returns the mutes that another engine keeps, beside those of the store.
    """

    channels: Sequence[str]
    repeat_interval: float
    window: float
    holding: frozenset[str] = frozenset()
    at_once: Sequence[str] = ()
    routes: Sequence[Route] = ()
    muted_elsewhere: Callable[[], Sequence[Mute]] = tuple

    def mutes(self, mutes: Mutes, now: float) -> list[Mute]:
        """The mutes in force.

        Args:
            mutes: Those of the store.
            now: Unix seconds.
        """
        return in_force((*mutes.all(now), *self.muted_elsewhere()), now)

    def due(self, alert: Selectable, unacknowledged: float = 0.0) -> list[str]:
        """The channels that get `alert` when nobody has acknowledged it for `unacknowledged` seconds."""
        if not self.routes:
            return list(self.channels)
        routed = {route.channel for route in self.routes}
        chosen = {route.channel for route in self.routes if route.after <= unacknowledged and route.selection(alert)}
        return [name for name in self.channels if name not in routed or name in chosen]

    def longest_wait(self, alert: Selectable) -> float:
        """Seconds without an acknowledgement after which the last further channel gets `alert`; 0: none does."""
        return max((route.after for route in self.routes if route.selection(alert)), default=0.0)

    def history_entry(self, event: AlertEvent, channels: Collection[str], *, notified: bool) -> AlertEvent:
        """`event` with its state on each channel, for the history.

        Args:
            event: The event.
            channels: The channels that it waits for.
            notified: Whether it is notified; the channels of `at_once` then have it already.
        """
        others = (*self.channels, *self.at_once)
        return event.as_history_entry(channels, others, written=self.at_once if notified else ())

    def with_channels(self, channels: Collection[str], holding: Collection[str] = ()) -> "NotificationPolicy":
        """The same with the channels of other workers added, and those of them that are `holding`."""
        others = sorted(set(channels).difference(self.channels))
        if not others:
            return self
        return self._replace(channels=(*self.channels, *others), holding=self.holding.union(holding))
