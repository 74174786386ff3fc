"""The state machine of an alert: inactive, pending, firing, inactive. Pure functions of readings and times."""

import math
from dataclasses import replace
from enum import Enum

from otel_monitoring.alerts.rules.expressions import Reading
from otel_monitoring.alerts.rules.rule import NoData, Rule
from otel_monitoring.value import Value

MAX_STEP = 60.0
"""The most seconds that one evaluation adds to a hold: a longer gap was not observed, and clocks jump."""

KEPT_SECONDS = 3600.0
"""Seconds without data after which an alert with `NoData.KEEP` ends: its subject may not exist any more."""

FLAPS = 3
FLAP_SECONDS = 600.0
"""An alert that starts `FLAPS` times within these seconds is flapping."""

CALM_SECONDS = 300.0
"""Seconds without a breach after which a flapping alert resolves."""


class Phase(str, Enum):
    """The phase of an alert, with Prometheus' names."""

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"


class AlertState(Value):
    """The state of one alert of a rule.

    Attributes:
        phase: Its phase.
        since: When the breach started, in Unix seconds; meaningless while inactive.
        held: Seconds that the breach has lasted while pending.
        quiet: Seconds without a breach while firing; None: the rule is breached.
        unknown: Seconds without data.
        seen: The time of the last evaluation, in Unix seconds.
        value: The last value, in the rule's unit; None: no data.
        notified_at: When it was last notified that it fires, in Unix seconds; None: not in this incident.
        starts: The last `FLAPS` starts of a breach, in Unix seconds, also those of earlier incidents.
        times: How many starts followed one another, each within `FLAP_SECONDS` of the one before.
        flapping: It started `FLAPS` times within `FLAP_SECONDS`, and keeps firing for `CALM_SECONDS` after a breach.
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
        """Whether it ended for lack of data: whether the problem is over is unknown."""
        return self.phase is Phase.INACTIVE and self.unknown >= KEPT_SECONDS

    def may_flap(self, now: float) -> bool:
        """Whether it started within `FLAP_SECONDS`, so that its next start may make it flapping."""
        return bool(_recent(self.starts, now))


def starts_alert(rule: Rule, reading: Reading | None) -> bool:
    """Whether `reading` starts an inactive alert of `rule`; otherwise `advance` leaves it inactive."""
    return _breached(rule, Phase.INACTIVE, reading, warming_up=False) is True


def sees_breach(rule: Rule, reading: Reading | None, *, warming_up: bool = False) -> bool:
    """Whether `reading` itself breaches the rule of a firing alert; an alert can keep firing without that."""
    return _breached(rule, Phase.FIRING, reading, warming_up=warming_up) is True


def advance(
    rule: Rule, state: AlertState, reading: Reading | None, now: float, *, warming_up: bool = False
) -> AlertState:
    """The state after one more evaluation.

    Args:
        rule: The rule.
        state: The state before.
        reading: The value; None: no data.
        now: Unix seconds. A clock that is set back adds nothing to a hold and resolves nothing.
        warming_up: The window is not full yet; missing data starts no alert and resolves none.
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
        return _without_data(state, step)
    state = replace(state, unknown=0.0)
    return _with_breach(rule, state, step, now) if breached else _without_breach(rule, state, step)


def _usable(rule: Rule, reading: Reading | None) -> Reading | None:
    """The reading, if it is finite and has at least the rule's `min_samples`."""
    enough = reading is not None and reading.samples >= rule.min_samples and math.isfinite(reading.value)
    return reading if enough else None


def _breached(rule: Rule, phase: Phase, reading: Reading | None, *, warming_up: bool) -> bool | None:
    """Whether the rule is breached; None: unknown, so the alert stays as it is."""
    reading = _usable(rule, reading)
    if reading is not None:
        breached = rule.breached_by(reading.value, firing=phase is Phase.FIRING)
    elif rule.no_data is NoData.KEEP:
        return None
    else:
        breached = rule.no_data is NoData.FIRE
    no_samples = reading is None or reading.samples == 0
    if warming_up and breached and (no_samples or rule.waits_for_window):
        return None
    return None if warming_up and no_samples and phase is Phase.FIRING else breached


def _without_data(state: AlertState, step: float) -> AlertState:
    """The state stays as it is, for `KEPT_SECONDS` at most."""
    if state.phase is Phase.INACTIVE:
        return state
    state = replace(state, unknown=state.unknown + step)
    return state if state.unknown < KEPT_SECONDS else _inactive(state)


def _with_breach(rule: Rule, state: AlertState, step: float, now: float) -> AlertState:
    if state.phase is Phase.FIRING:
        return state if state.quiet is None else _started(rule, replace(state, quiet=None), now)
    if state.phase is Phase.INACTIVE:
        state = replace(state, phase=Phase.PENDING, since=now, held=0.0, quiet=None, notified_at=None)
    else:
        state = replace(state, held=state.held + step)
    return _started(rule, replace(state, phase=Phase.FIRING), now) if state.held >= rule.hold else state


def _started(rule: Rule, state: AlertState, now: float) -> AlertState:
    """Count one more start. A rule that keeps firing for `CALM_SECONDS` or longer never flaps."""
    recent = _recent(state.starts, now)
    starts = (*recent, now)[-FLAPS:]
    flaps = len(starts) == FLAPS and rule.keep_firing_for < CALM_SECONDS
    return replace(state, starts=starts, times=state.times + 1 if recent else 1, flapping=state.flapping or flaps)


def _recent(starts: tuple[float, ...], now: float) -> tuple[float, ...]:
    """The starts within `FLAP_SECONDS`; a start in the future, from before a clock was set back, does not count."""
    return tuple(start for start in starts if 0 <= now - start < FLAP_SECONDS)


def _without_breach(rule: Rule, state: AlertState, step: float) -> AlertState:
    if state.phase is Phase.FIRING:
        quiet = 0.0 if state.quiet is None else state.quiet + step
        if quiet < max(rule.keep_firing_for, CALM_SECONDS if state.flapping else 0.0):
            return replace(state, quiet=quiet)
    return _inactive(state)


def _inactive(state: AlertState) -> AlertState:
    if state.flapping:
        state = replace(state, starts=(), times=0, flapping=False)
    return replace(state, phase=Phase.INACTIVE, held=0.0, quiet=None)
