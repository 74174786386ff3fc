"""The life of an alert: inactive, pending, firing, and inactive again. A pure function of what is seen and when."""

import math
from dataclasses import dataclass, replace
from enum import Enum

from otel_monitoring.alerts.expressions import Reading
from otel_monitoring.alerts.rules import NoData, Rule

MAX_STEP = 60.0
"""Seconds that one evaluation adds to a hold at most: nobody looked in a longer gap, and clocks jump."""


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
        seen: When it was evaluated last, in Unix seconds.
        value: The last value; None: no data.
        notified_at: When its firing was notified last, in Unix seconds; None: not in this incident.
    """

    phase: Phase = Phase.INACTIVE
    since: float = 0.0
    held: float = 0.0
    quiet: float | None = None
    seen: float = 0.0
    value: float | None = None
    notified_at: float | None = None


def begins(rule: Rule, reading: Reading | None) -> bool:
    """Whether this begins an alert that is inactive; where it does not, `advance` leaves it inactive."""
    usable = _usable(rule, reading)
    return rule.breached_by(usable.value, firing=False) if usable is not None else rule.no_data is NoData.FIRE


def advance(
    rule: Rule, state: AlertState, reading: Reading | None, now: float, *, settling: bool = False
) -> AlertState:
    """The state after one more look.

    Args:
        rule: What is looked for.
        state: The state before.
        reading: What was seen; None: no data.
        now: Unix seconds. A clock that goes back adds nothing to any hold and ends nothing.
        settling: Whether what was measured does not fill the window yet, as after a restart: that nothing was seen then
            ends nothing.
    """
    reading = _usable(rule, reading)
    step = min(max(0.0, now - state.seen), MAX_STEP)
    state = replace(
        state,
        seen=now,
        value=reading.value if reading is not None else None,
        notified_at=min(state.notified_at, now) if state.notified_at is not None else None,
    )
    breached = _breached(rule, state.phase, reading)
    unseen = reading is None or reading.samples == 0
    if breached is None or (settling and unseen and not breached and state.phase is Phase.FIRING):
        return state
    return _raised(rule, state, step, now) if breached else _lowered(rule, state, step)


def _usable(rule: Rule, reading: Reading | None) -> Reading | None:
    """The reading, if it rests on enough and is a number."""
    enough = reading is not None and reading.samples >= rule.min_samples and math.isfinite(reading.value)
    return reading if enough else None


def _breached(rule: Rule, phase: Phase, reading: Reading | None) -> bool | None:
    """Whether the rule is breached; None: nobody knows."""
    if reading is not None:
        return rule.breached_by(reading.value, firing=phase is Phase.FIRING)
    if rule.no_data is NoData.KEEP:
        return None
    return rule.no_data is NoData.FIRE


def _raised(rule: Rule, state: AlertState, step: float, now: float) -> AlertState:
    if state.phase is Phase.FIRING:
        return replace(state, quiet=None)
    if state.phase is Phase.INACTIVE:
        state = replace(state, phase=Phase.PENDING, since=now, held=0.0, quiet=None, notified_at=None)
    else:
        state = replace(state, held=state.held + step)
    return replace(state, phase=Phase.FIRING) if state.held >= rule.hold else state


def _lowered(rule: Rule, state: AlertState, step: float) -> AlertState:
    if state.phase is Phase.FIRING:
        quiet = 0.0 if state.quiet is None else state.quiet + step
        if quiet < rule.keep_firing_for:
            return replace(state, quiet=quiet)
    return replace(state, phase=Phase.INACTIVE, held=0.0, quiet=None)
