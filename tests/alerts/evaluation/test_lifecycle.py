"""The life of an alert as a table of what is seen and what becomes of it; and what holds of every life."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_monitoring.alerts import Gauge, NoData, Rule, requests
from otel_monitoring.alerts.evaluation.lifecycle import (
    CALM_SECONDS,
    KEPT_SECONDS,
    MAX_STEP,
    AlertState,
    Phase,
    advance,
    sees_breach,
    starts_alert,
)
from otel_monitoring.alerts.rules.expressions import Reading

START = 1_700_000_000.0
NO_DATA = None
NEW = AlertState()
LETTERS = {"-": Phase.INACTIVE, "p": Phase.PENDING, "F": Phase.FIRING}

Look = tuple[float, float | None]
"""Seconds since the look before, and the value that is seen; None: no data."""


def rule(**fields: Any) -> Rule:
    return Rule(**{"name": "hot", "expression": Gauge("heat"), "comparison": ">", "threshold": 80, **fields})


def reading(value: float | None, samples: int = 100) -> Reading | None:
    return None if value is None else Reading(value, samples)


def live(own: Rule, looks: list[Look], state: AlertState = NEW, *, warming_up: bool = False) -> list[AlertState]:
    """The states after each look."""
    now, states = state.seen or START, []
    for gap, value in looks:
        now += gap
        state = advance(own, state, reading(value), now, warming_up=warming_up)
        states.append(state)
    return states


def every(seconds: float, *values: float | None) -> list[Look]:
    return [(seconds, value) for value in values]


@pytest.mark.parametrize(
    ("own", "looks", "phases"),
    [
        pytest.param(rule(), every(10, 79, 80, 81, 99, 80), "--FF-", id="no hold: fires and ends with the value"),
        pytest.param(rule(comparison="<", threshold=1), every(10, 1, 0, 1), "-F-", id="below"),
        pytest.param(rule(comparison=">="), every(10, 79, 80, 79), "-F-", id="at the threshold"),
        pytest.param(rule(hold=30), every(10, 90, 90, 90, 90, 90), "pppFF", id="hold counts from the first breach"),
        pytest.param(rule(hold=25), every(10, 90, 90, 90, 90), "pppF", id="hold between two looks"),
        pytest.param(rule(hold=30), every(10, 90, 90, 90, 70, 90, 90), "ppp-pp", id="a gap begins the hold anew"),
        pytest.param(rule(hold=20), every(10, 90, 70, 90, 70, 90, 70), "p-p-p-", id="flapping never holds"),
        pytest.param(rule(), every(10, 90, 70, 90, 70), "F-F-", id="flapping without a hold"),
        pytest.param(
            rule(keep_firing_for=20), every(10, 90, 70, 70, 90, 70, 70, 70), "FFFFFF-", id="a short calm is bridged"
        ),
        pytest.param(
            rule(keep_firing_for=20), every(10, 90, 70, 70, 70, 70), "FFF--", id="kept from the first look without it"
        ),
        pytest.param(
            rule(keep_firing_for=60), [(10, 90.0), (3600, 70.0), (10, 70.0)], "FFF", id="not by one late look"
        ),
        pytest.param(rule(clear=70), every(10, 75, 81, 75, 71, 70, 75), "-FFF--", id="hysteresis"),
        pytest.param(
            rule(comparison="<", threshold=10, clear=20), every(10, 15, 9, 15, 20, 15), "-FF--", id="hysteresis below"
        ),
        pytest.param(rule(clear=70, hold=20), every(10, 90, 75, 90), "p-p", id="while pending the threshold counts"),
        pytest.param(
            rule(clear=70, keep_firing_for=20),
            every(10, 90, 69, 75, 69, 69, 69),
            "FFFFF-",
            id="clear and keep together",
        ),
        # No data
        pytest.param(rule(), every(10, 90, NO_DATA, 90), "F-F", id="no data resolves"),
        pytest.param(
            rule(keep_firing_for=20), every(10, 90, NO_DATA, NO_DATA, NO_DATA), "FFF-", id="as slowly as a value"
        ),
        pytest.param(rule(hold=20), every(10, 90, NO_DATA, 90, 90, 90), "p-ppF", id="no data ends what is pending"),
        pytest.param(
            rule(no_data=NoData.KEEP), every(10, NO_DATA, 90, NO_DATA, NO_DATA, 70), "-FFF-", id="no data keeps"
        ),
        pytest.param(rule(no_data=NoData.KEEP), every(60, 90, *[NO_DATA] * 61, 90), f"{'F' * 60}--F", id="for an hour"),
        pytest.param(
            rule(no_data=NoData.KEEP),
            every(60, 90, *[NO_DATA] * 59, 90, *[NO_DATA] * 60),
            f"{'F' * 120}-",
            id="an hour without any data",
        ),
        pytest.param(
            rule(no_data=NoData.KEEP, hold=120), every(60, 90, *[NO_DATA] * 60), f"{'p' * 60}-", id="pending likewise"
        ),
        pytest.param(
            rule(no_data=NoData.KEEP),
            [(0, 90.0), (86_400, NO_DATA), (-86_400, NO_DATA), (60, NO_DATA)],
            "FFFF",
            id="nobody looked in a gap",
        ),
        pytest.param(
            rule(no_data=NoData.KEEP, hold=20), every(10, 90, NO_DATA, NO_DATA, 90, 90), "ppppF", id="nor does it hold"
        ),
        pytest.param(rule(no_data=NoData.FIRE), every(10, NO_DATA, 70, NO_DATA), "F-F", id="no data fires"),
        pytest.param(rule(no_data=NoData.FIRE, hold=20), every(10, NO_DATA, 90, NO_DATA), "ppF", id="or both in turn"),
        pytest.param(rule(), every(10, 90, math.nan, 90, math.inf), "F-F-", id="what is no number is no data"),
        # Clocks
        pytest.param(rule(hold=60), [(0, 90.0), (-3600, 90.0), (30, 90.0), (30, 90.0)], "pppF", id="a clock set back"),
        pytest.param(rule(hold=90), [(0, 90.0), (86400, 90.0), (30, 90.0)], "ppF", id="a clock set forward"),
        pytest.param(rule(), [(0, 90.0), (-3600, 90.0), (10, 70.0)], "FF-", id="back while it fires"),
        pytest.param(
            rule(keep_firing_for=60),
            [(0, 90.0), (10, 70.0), (-3600, 70.0), (30, 70.0), (30, 70.0)],
            "FFFF-",
            id="and ends",
        ),
    ],
)
def test_what_is_seen_and_what_becomes_of_it(own: Rule, looks: list[Look], phases: str) -> None:
    assert [state.phase for state in live(own, looks)] == [LETTERS[letter] for letter in phases]


@pytest.mark.parametrize(
    ("no_data", "samples", "phase"),
    [
        (NoData.RESOLVE, 19, Phase.INACTIVE),
        (NoData.KEEP, 19, Phase.FIRING),
        (NoData.FIRE, 19, Phase.FIRING),
        (NoData.RESOLVE, 20, Phase.FIRING),
    ],
)
def test_too_few_samples_are_no_data(no_data: NoData, samples: int, phase: Phase) -> None:
    own = rule(min_samples=20, no_data=no_data)
    (firing,) = live(own, [(10, 90.0)])
    after = advance(own, firing, Reading(99.0, samples), firing.seen + 10)
    assert after.phase is phase
    assert after.value == (99.0 if samples >= 20 else None)


def test_a_new_firing_after_a_resolve_is_a_new_incident() -> None:
    first, again, over, second = live(rule(), every(10, 90, 90, 70, 90))
    assert (first.since, again.since) == (START + 10, START + 10)
    assert over.phase is Phase.INACTIVE
    assert (second.since, second.notified_at) == (START + 40, None)


def test_a_new_firing_is_not_one_that_was_notified() -> None:
    own = rule()
    (firing,) = live(own, [(10, 90.0)])
    told = replace(firing, notified_at=firing.seen)
    assert live(own, every(10, 90, 90), told)[-1].notified_at == firing.seen
    assert live(own, every(10, 70, 90), told)[-1].notified_at is None


def test_a_clock_set_back_does_not_put_off_what_is_due() -> None:
    own = rule()
    told = replace(live(own, [(10, 90.0)])[0], notified_at=START + 10)
    (later,) = live(own, [(-7200, 90.0)], told)
    assert later.notified_at == START + 10 - 7200, "an interval later it is told again"


# Flapping: three beginnings within ten minutes; over after five minutes without a breach


CALM = [70.0] * 29


@pytest.mark.parametrize(
    ("own", "looks", "phases"),
    [
        pytest.param(
            rule(),
            every(10, 90, 70, 90, 70, 90, *CALM, 70, 70),
            f"F-F-F{'F' * 29}F-",
            id="the third one within ten minutes",
        ),
        pytest.param(
            rule(),
            every(10, 90, 70, 90, 70, 90, *CALM, 90, *CALM, 70, 70),
            f"F-F-F{'F' * 60}-",
            id="as long as it goes on",
        ),
        pytest.param(
            rule(keep_firing_for=30),
            every(10, 90, 70, 90, 70, 90, 70, 70, 70, 70, 70),
            "F" * 10,
            id="also where a short calm is bridged",
        ),
        pytest.param(
            rule(keep_firing_for=300),
            every(10, *[90, 70] * 5, *[70] * 29, 70, 70),
            "F" * 39 + "--",
            id="not where any calm is bridged",
        ),
        pytest.param(
            rule(), [(10, 90.0), (10, 70.0), (10, 90.0), (10, 70.0), (590, 90.0), (10, 70.0)], "F-F-F-", id="too rarely"
        ),
        pytest.param(
            rule(hold=20), every(10, *[90, 70] * 5), "p-" * 5, id="what never held does not count as a beginning"
        ),
        pytest.param(
            rule(no_data=NoData.KEEP),
            every(10, 90, 70, 90, 70, 90, *[NO_DATA] * 40, *CALM, 70, 70),
            f"F-F-F{'F' * 70}-",
            id="no data is no calm",
        ),
        pytest.param(
            rule(), every(10, 90, 70, 90, 70, 90, *[NO_DATA] * 32), f"F-F-F{'F' * 30}--", id="no data that resolves is"
        ),
        pytest.param(
            rule(),
            every(10, 90, 70, 90, 70, 90, *CALM, 70, 70, 90, 70, 90, 70, 90, 70),
            f"F-F-F{'F' * 30}-F-F-FF",
            id="afterwards the count begins anew",
        ),
    ],
)
def test_what_flaps_goes_on_firing_until_it_has_been_quiet_for_long_enough(
    own: Rule, looks: list[Look], phases: str
) -> None:
    assert "".join({phase: letter for letter, phase in LETTERS.items()}[s.phase] for s in live(own, looks)) == phases


def test_how_often_it_began_is_counted_while_it_flaps_and_forgotten_afterwards() -> None:
    states = live(rule(), every(10, *[90, 70] * 10))
    assert [state.flapping for state in states] == [False] * 4 + [True] * 16
    assert states[-1].times == 10
    (over,) = live(rule(), [(10, 70.0)] * 31, states[-1])[-1:]
    assert (over.phase, over.flapping, over.times, over.starts) == (Phase.INACTIVE, False, 0, ())


def test_a_clock_that_is_set_back_makes_nothing_flap() -> None:
    assert not live(rule(), [(10, 90.0), (10, 70.0), (10, 90.0), (10, 70.0), (-86_400, 90.0)])[-1].flapping


# Restart: the state comes from the store, the window is empty


@pytest.mark.parametrize(
    ("seen", "phase"),
    [
        (None, Phase.FIRING),
        (Reading(0.0, 0), Phase.FIRING),
        (Reading(0.0, 5), Phase.FIRING),
        (Reading(0.0, 20), Phase.INACTIVE),
        (Reading(99.0, 20), Phase.FIRING),
    ],
    ids=["nothing", "a count of nothing", "too little", "that it is over", "that it goes on"],
)
def test_after_a_restart_only_what_is_seen_ends_an_alert(seen: Reading | None, phase: Phase) -> None:
    own = rule(min_samples=20)
    (firing,) = live(own, [(10, 90.0)])
    told = replace(firing, notified_at=firing.seen)
    after = advance(own, told, seen, told.seen + 5, warming_up=True)
    assert after.phase is phase
    assert after.notified_at == told.notified_at, "and it is not told again"
    assert after.since == told.since
    assert advance(own, after, None, after.seen + 300).phase is Phase.INACTIVE, (
        "once the window is full, nothing is over"
    )


@pytest.mark.parametrize("no_data", NoData)
@pytest.mark.parametrize("seen", [None, Reading(99.0, 0), Reading(0.0, 0), Reading(99.0, 19)])
def test_until_the_window_is_full_nothing_begins_because_nothing_is_seen(seen: Reading | None, no_data: NoData) -> None:
    own = rule(min_samples=20, no_data=no_data)
    (state,) = live(own, [(10, None)], warming_up=True)
    assert advance(own, state, seen, state.seen + 10, warming_up=True).phase is Phase.INACTIVE
    assert not sees_breach(own, seen, warming_up=True)
    (held,) = live(replace(own, hold=15), [(10, 90.0)])
    assert advance(replace(own, hold=15), held, seen, held.seen + 60, warming_up=True).phase is not Phase.FIRING


def test_a_count_that_is_too_low_says_something_once_the_window_is_full() -> None:
    own = Rule("idle", requests(), "<", 10, no_data=NoData.KEEP)
    assert advance(own, NEW, Reading(3.0, 3), START, warming_up=True).phase is Phase.INACTIVE
    assert advance(own, NEW, Reading(3.0, 3), START).phase is Phase.FIRING
    firing = advance(own, NEW, Reading(3.0, 3), START)
    assert advance(own, firing, Reading(3.0, 3), START + 10, warming_up=True).phase is Phase.FIRING
    assert not sees_breach(own, Reading(3.0, 3), warming_up=True)
    assert advance(own, firing, Reading(12.0, 12), START + 10, warming_up=True).phase is Phase.INACTIVE


def test_a_restart_begins_nothing_and_ends_what_is_pending() -> None:
    (pending,) = live(rule(hold=30), [(10, 90.0)])
    assert [s.phase for s in live(rule(hold=30), [(10, None)], pending, warming_up=True)] == [Phase.INACTIVE]
    assert [s.phase for s in live(rule(), [(10, None)], warming_up=True)] == [Phase.INACTIVE]


# What holds of every life

seconds = st.sampled_from([0.0, 10.0, 30.0, 60.0, 61.0, 300.0])
rules = st.builds(
    rule,
    hold=seconds,
    keep_firing_for=seconds,
    clear=st.sampled_from([None, 70, 80]),
    min_samples=st.sampled_from([0, 20]),
    no_data=st.sampled_from(NoData),
)
looks = st.lists(
    st.tuples(
        st.sampled_from([-3600.0, -1.0, 0.0, 1.0, 10.0, 30.0, 60.0, 90.0, 86400.0]),
        st.none()
        | st.builds(
            Reading,
            st.sampled_from([0.0, 70.0, 75.0, 80.0, 81.0, math.nan]),
            st.sampled_from([0, 19, 20]),
            details=st.just({}),
        ),
        st.booleans(),
    ),
    max_size=40,
)


def breach(own: Rule, seen: Reading | None, *, firing: bool, warming_up: bool) -> bool | None:
    """The documented meaning, written down once more; None: not known."""
    if seen is None or seen.samples < own.min_samples or math.isnan(seen.value):
        known = {NoData.RESOLVE: False, NoData.KEEP: None, NoData.FIRE: True}[own.no_data]
        return None if warming_up and (known or firing) else known
    limit = own.clear if firing and own.clear is not None else own.threshold
    nothing = warming_up and seen.samples == 0 and (firing or seen.value > limit)
    return None if nothing else seen.value > limit


@given(rules, looks)
@settings(max_examples=150, deadline=None)
def test_it_fires_after_the_hold_and_ends_after_the_quiet_time(
    own: Rule, seen: list[tuple[float, Reading | None, bool]]
) -> None:
    state, now = AlertState(), START
    began, held, unknown, quiet = now, 0.0, 0.0, None  # what an observer with a stop-watch would note
    for gap, what, warming_up in seen:
        now += gap
        step = min(max(gap, 0.0), MAX_STEP) if state.seen else 0.0
        before, state = state, advance(own, state, what, now, warming_up=warming_up)
        assert state == advance(own, before, what, now, warming_up=warming_up), "a pure function"
        assert state.seen == now
        assert 0 <= state.held - before.held <= MAX_STEP or state.phase is Phase.INACTIVE
        breached = breach(own, what, firing=before.phase is Phase.FIRING, warming_up=warming_up)
        if before.phase is Phase.INACTIVE:
            began, held, quiet = now, 0.0, None
        elif before.phase is Phase.PENDING and breached:
            held += step
        unknown = unknown + step if breached is None and before.phase is not Phase.INACTIVE else 0.0
        if before.phase is Phase.FIRING and breached is False:
            quiet = 0.0 if quiet is None else quiet + step
        elif breached:
            quiet = None
        if state.phase is Phase.FIRING and before.phase is not Phase.FIRING:
            assert breached, "nothing fires without a breach"
            assert held >= own.hold, "and none that has not held"
        if state.phase is Phase.PENDING:
            assert held < own.hold
        if before.phase is Phase.FIRING and state.phase is not Phase.FIRING:
            assert state.phase is Phase.INACTIVE
            assert breached is False or unknown >= KEPT_SECONDS, "nothing ends while it is breached or not known"
            assert state.given_up is (breached is None)
            assert breached is None or quiet is not None
            assert breached is None or (quiet or 0.0) >= max(
                own.keep_firing_for, CALM_SECONDS if before.flapping else 0
            )
        if state.phase is not Phase.INACTIVE:
            assert state.since == began, "an incident has one beginning"


@given(rules, looks)
@settings(max_examples=100, deadline=None)
def test_beginnings_follow_each_other_where_the_clock_goes_on(
    own: Rule, seen: list[tuple[float, Reading | None, bool]]
) -> None:
    state, now, last = AlertState(), START, 0.0
    for gap, what, warming_up in seen:
        now += abs(gap)
        state = advance(own, state, what, now, warming_up=warming_up)
        if state.phase is not Phase.INACTIVE:
            assert last <= state.since <= now
            last = state.since
        assert state.starts == tuple(sorted(state.starts))
        assert state.flapping <= (state.phase is Phase.FIRING), "what is over does not flap"
        assert not state.flapping or own.keep_firing_for < CALM_SECONDS


@given(
    rules,
    st.none()
    | st.builds(
        Reading, st.sampled_from([0.0, 80.0, 81.0, math.nan, math.inf]), st.integers(0, 30), details=st.just({})
    ),
)
def test_what_begins_is_what_an_inactive_alert_would_make_of_it(own: Rule, seen: Reading | None) -> None:
    assert starts_alert(own, seen) == (advance(own, AlertState(), seen, START).phase is not Phase.INACTIVE)
