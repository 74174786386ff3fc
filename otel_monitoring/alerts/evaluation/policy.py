"""`Policy`: when an incident is notified, repeated, suppressed, muted or inhibited."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from otel_monitoring.alerts.model import AlertEvent, AlertType, Mute
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.alerts.store import Store


def lately(then: float | None, now: float, seconds: float) -> bool:
    """Whether `then` was less than `seconds` before `now`; None: never, and so for a clock that was set back."""
    return then is not None and 0 <= now - then < seconds


def muted(mutes: Iterable[Mute], kind: AlertType, labels: Mapping[str, str]) -> bool:
    """Whether one of `mutes` is for an alert of this type and these labels."""
    return any(mute.covers(kind, labels) for mute in mutes)


def inhibited_types(
    store: Store, rules: Iterable[Rule], firing: Collection[str], now: float, window: float
) -> frozenset[AlertType]:
    """Types that are quiet now: a rule that inhibits them fires, or did so lately that the window still shows it.

    Args:
        store: Where it is noted when inhibiting rules ended.
        rules: The rules.
        firing: The names of those that fire.
        now: Unix seconds.
        window: Seconds that rules look back.
    """
    quiet: set[AlertType] = set()
    for rule in rules:
        if rule.inhibits:
            ended = None if rule.name in firing else store.notified_at(_ended(rule))
            if rule.name in firing or lately(ended, now, window):
                quiet |= rule.inhibits
    return frozenset(quiet)


def _ended(rule: Rule) -> str:
    return f"ended:{rule.name}"


@dataclass(frozen=True, slots=True)
class Policy:
    """What decides about notifying, besides the rules.

    Attributes:
        channels: Where notifications go, but for those that have them at once.
        repeat_interval: Seconds until an alert that still fires is notified again.
        window: Seconds that rules look back: so long does what an inhibiting alert caused remain visible.
        holding: Those of the channels whose receiver holds an alert until it hears of its end.
        at_once: The channels that have notifications at once.
    """

    channels: Sequence[str]
    repeat_interval: float
    window: float
    holding: frozenset[str] = frozenset()
    at_once: Sequence[str] = ()

    def kept(self, event: AlertEvent, channels: Collection[str], *, told: bool) -> AlertEvent:
        """An event as the history has it.

        Args:
            event: What happened.
            channels: Those that it waits for.
            told: Whether people are told of it.
        """
        others = (*self.channels, *self.at_once)
        return event.waits_for(channels, others, written=self.at_once if told else ())

    def joined(self, channels: Collection[str]) -> "Policy":
        """The same with channels that other workers have."""
        others = sorted(set(channels).difference(self.channels))
        return replace(self, channels=(*self.channels, *others)) if others else self
