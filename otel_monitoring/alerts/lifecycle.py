"""The life of an alert: inactive, pending, firing, and inactive again. A pure function of what is seen and when."""

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
        quiet: Seconds it has been seen not to be breached while firing.
        seen: When it was evaluated last, in Unix seconds.
        value: The last value; None: no data.
        notified_at: When its firing was notified last, in Unix seconds; None: not in this incident.
    """

    phase: Phase = Phase.INACTIVE
    since: float = 0.0
    held: float = 0.0
    quiet: float = 0.0
    seen: float = 0.0
    value: float | None = None
    notified_at: float | None = None


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
    if reading is not None and reading.samples < rule.min_samples:
        reading = None
    step = min(max(0.0, now - state.seen), MAX_STEP)
    state = replace(
        state,
        seen=now,
        value=reading.value if reading is not None else None,
        notified_at=min(state.notified_at, now) if state.notified_at is not None else None,
    )
    breached = _breached(rule, state, reading)
    unseen = reading is None or reading.samples == 0
    if breached is None or (settling and unseen and not breached and state.phase is Phase.FIRING):
        return state
    return _raised(rule, state, step, now) if breached else _lowered(rule, state, step)


def _breached(rule: Rule, state: AlertState, reading: Reading | None) -> bool | None:
    if reading is not None:
        return rule.breached_by(reading.value, firing=state.phase is Phase.FIRING)
    if rule.no_data is NoData.KEEP:
        return None
    return rule.no_data is NoData.FIRE


def _raised(rule: Rule, state: AlertState, step: float, now: float) -> AlertState:
    if state.phase is Phase.FIRING:
        return replace(state, quiet=0.0)
    if state.phase is Phase.INACTIVE:
        state = replace(state, phase=Phase.PENDING, since=now, held=0.0, quiet=0.0, notified_at=None)
    else:
        state = replace(state, held=state.held + step)
    return replace(state, phase=Phase.FIRING) if state.held >= rule.hold else state


def _lowered(rule: Rule, state: AlertState, step: float) -> AlertState:
    if state.phase is Phase.FIRING and state.quiet + step < rule.keep_firing_for:
        return replace(state, quiet=state.quiet + step)
    return replace(state, phase=Phase.INACTIVE, held=0.0, quiet=0.0)
