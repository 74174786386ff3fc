"""The life of an alert: inactive, pending, firing, and inactive again. A pure function of what is seen and when."""

import math
from dataclasses import dataclass, replace
from enum import Enum

from otel_monitoring.alerts.rules.expressions import Reading
from otel_monitoring.alerts.rules.rule import NoData, Rule

MAX_STEP = 60.0
"""Seconds that one evaluation adds to a hold at most: nobody looked in a longer gap, and clocks jump."""

KEPT_SECONDS = 3600.0
"""Seconds without knowing anything after which an alert is given up: what it is about may not exist any more."""

FLAPS = 3
FLAP_SECONDS = 600.0
"""An alert that begins `FLAPS` times within these seconds is flapping."""

CALM_SECONDS = 300.0
"""Seconds without a breach after which a flapping alert is over."""


class Phase(str, Enum):
    """Where an alert stands."""

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"


@dataclass(frozen=True, slots=True)
class AlertState:
    """One alert of one rule.

    Attributes:
        phase: Where it stands.
        since: When the breach began, in Unix seconds; meaningless while inactive.
        held: Seconds it has been seen to be breached while pending.
        quiet: Seconds since it was first seen not to be breached while firing; None: it is breached.
        unknown: Seconds for which nothing has been known of it.
        seen: When it was evaluated last, in Unix seconds.
        value: The last value; None: no data.
        notified_at: When its firing was notified last, in Unix seconds; None: not in this incident.
        starts: When the breach began anew lately, in Unix seconds: the last `FLAPS` times, earlier incidents included.
        times: How often it began anew, without `FLAP_SECONDS` between two of them.
        flapping: Whether it comes and goes: it then goes on firing for `CALM_SECONDS` after the last breach.
    """

    phase: Phase = Phase.INACTIVE
    since: float = 0.0
    held: float = 0.0
    quiet: float | None = None
    unknown: float = 0.0
    seen: float = 0.0
    value: float | None = None
    notified_at: float | None = None
    starts: tuple[float, ...] = ()
    times: int = 0
    flapping: bool = False

    @property
    def given_up(self) -> bool:
        """Whether it ended because nothing was known of it any more: that says nothing about how things are."""
        return self.phase is Phase.INACTIVE and self.unknown >= KEPT_SECONDS

    def restless(self, now: float) -> bool:
        """Whether it began so lately that the next time may make it flapping."""
        return bool(_recent(self.starts, now))


def begins(rule: Rule, reading: Reading | None) -> bool:
    """Whether this begins an alert that is inactive; where it does not, `advance` leaves it inactive."""
    return _breached(rule, Phase.INACTIVE, reading, warming_up=False) is True


def evident(rule: Rule, reading: Reading | None, *, warming_up: bool = False) -> bool:
    """Whether a breach is seen now of an alert that fires: what goes on firing because nothing was seen is not."""
    return _breached(rule, Phase.FIRING, reading, warming_up=warming_up) is True


def advance(
    rule: Rule, state: AlertState, reading: Reading | None, now: float, *, warming_up: bool = False
) -> AlertState:
    """The state after one more look.

    Args:
        rule: What is looked for.
        state: The state before.
        reading: What was seen; None: no data.
        now: Unix seconds. A clock that goes back adds nothing to any hold and ends nothing.
        warming_up: The window is not full yet, as after a restart. Missing data begins no alert and resolves none.
    """
    usable = _usable(rule, reading)
    step = min(max(0.0, now - state.seen), MAX_STEP)
    breached = _breached(rule, state.phase, reading, warming_up=warming_up)
    state = replace(
        state,
        seen=now,
        value=usable.value if usable is not None else None,
        notified_at=min(state.notified_at, now) if state.notified_at is not None else None,
    )
    if breached is None:
        return _kept(state, step)
    state = replace(state, unknown=0.0)
    return _raised(rule, state, step, now) if breached else _lowered(rule, state, step)


def _usable(rule: Rule, reading: Reading | None) -> Reading | None:
    """The reading, if it rests on enough and is a number."""
    enough = reading is not None and reading.samples >= rule.min_samples and math.isfinite(reading.value)
    return reading if enough else None


def _breached(rule: Rule, phase: Phase, reading: Reading | None, *, warming_up: bool) -> bool | None:
    """Whether the rule is breached; None: nobody knows."""
    reading = _usable(rule, reading)
    if reading is not None:
        breached = rule.breached_by(reading.value, firing=phase is Phase.FIRING)
    elif rule.no_data is NoData.KEEP:
        return None
    else:
        breached = rule.no_data is NoData.FIRE
    unseen = reading is None or reading.samples == 0
    if warming_up and breached and (unseen or rule.waits_for_window):
        return None
    return None if warming_up and unseen and phase is Phase.FIRING else breached


def _kept(state: AlertState, step: float) -> AlertState:
    """Nobody knows: it stays as it is, but not for ever."""
    if state.phase is Phase.INACTIVE:
        return state
    state = replace(state, unknown=state.unknown + step)
    return state if state.unknown < KEPT_SECONDS else _over(state)


def _raised(rule: Rule, state: AlertState, step: float, now: float) -> AlertState:
    if state.phase is Phase.FIRING:
        return state if state.quiet is None else _begun(rule, replace(state, quiet=None), now)
    if state.phase is Phase.INACTIVE:
        state = replace(state, phase=Phase.PENDING, since=now, held=0.0, quiet=None, notified_at=None)
    else:
        state = replace(state, held=state.held + step)
    return _begun(rule, replace(state, phase=Phase.FIRING), now) if state.held >= rule.hold else state


def _begun(rule: Rule, state: AlertState, now: float) -> AlertState:
    """It fires anew: is that once too often? A rule that keeps firing through any calm has no use for that."""
    recent = _recent(state.starts, now)
    starts = (*recent, now)[-FLAPS:]
    too_often = len(starts) == FLAPS and rule.keep_firing_for < CALM_SECONDS
    return replace(state, starts=starts, times=state.times + 1 if recent else 1, flapping=state.flapping or too_often)


def _recent(starts: tuple[float, ...], now: float) -> tuple[float, ...]:
    """Those within `FLAP_SECONDS`; none of before a clock was set back."""
    return tuple(start for start in starts if 0 <= now - start < FLAP_SECONDS)


def _lowered(rule: Rule, state: AlertState, step: float) -> AlertState:
    if state.phase is Phase.FIRING:
        quiet = 0.0 if state.quiet is None else state.quiet + step
        if quiet < max(rule.keep_firing_for, CALM_SECONDS if state.flapping else 0.0):
            return replace(state, quiet=quiet)
    return _over(state)


def _over(state: AlertState) -> AlertState:
    if state.flapping:
        state = replace(state, starts=(), times=0, flapping=False)
    return replace(state, phase=Phase.INACTIVE, held=0.0, quiet=None)
