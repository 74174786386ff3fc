"""Planned windows: when they are open, in any time zone, also where clocks are set back or forth."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies

from otel_monitoring.alerts import schedule
from otel_monitoring.alerts.schedule import Once, Opening, Weekly, clock_time, days_of, decoded, moment, planned

BERLIN = "Europe/Berlin"


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def weekly(days: str, start: str, end: str, zone: str = BERLIN) -> Weekly:
    return Weekly(days_of([days]), clock_time("from", start), clock_time("to", end), zone)


def test_a_window_that_is_open_once() -> None:
    once = Once(100.0, 200.0)
    assert [once.opening(now) for now in (0.0, 199.9, 200.0)] == [Opening(100.0, 200.0), Opening(100.0, 200.0), None]
    assert once.until == 200.0
    with pytest.raises(ValueError, match=r"^to: must be after from"):
        Once(200.0, 200.0)


@pytest.mark.parametrize(
    ("window", "now", "start", "end"),
    [
        (weekly("sun", "02:00", "04:00"), "2026-11-27T12:00+01:00", "2026-11-29T02:00+01:00", "2026-11-29T04:00+01:00"),
        (weekly("sun", "02:00", "04:00"), "2026-11-29T03:59+01:00", "2026-11-29T02:00+01:00", "2026-11-29T04:00+01:00"),
        (weekly("sun", "02:00", "04:00"), "2026-11-29T04:00+01:00", "2026-12-06T02:00+01:00", "2026-12-06T04:00+01:00"),
        # It closes on the next day.
        (weekly("fri", "22:00", "02:00"), "2026-11-28T01:00+01:00", "2026-11-27T22:00+01:00", "2026-11-28T02:00+01:00"),
        (
            weekly("mon", "22:00", "24:00"),
            "2026-11-28T00:30+01:00",
            "2026-11-30T22:00+01:00",
            "2026-12-01T00:00+01:00",
        ),
        (weekly("sat", "00:00", "00:00"), "2026-11-28T23:59+01:00", "2026-11-28T00:00+01:00", "2026-11-29T00:00+01:00"),
        # The clock is set back from 03:00 to 02:00 on 25 October, and forth from 02:00 to 03:00 on 29 March.
        (weekly("sun", "01:00", "02:30"), "2026-10-24T12:00+02:00", "2026-10-25T01:00+02:00", "2026-10-25T02:30+01:00"),
        (weekly("sun", "02:30", "04:00"), "2026-03-28T12:00+01:00", "2026-03-29T03:00+02:00", "2026-03-29T04:00+02:00"),
        (weekly("sun", "01:00", "02:30"), "2026-03-28T12:00+01:00", "2026-03-29T01:00+01:00", "2026-03-29T03:00+02:00"),
        (weekly("sun", "02:00", "02:45"), "2026-03-28T12:00+01:00", "2026-04-05T02:00+02:00", "2026-04-05T02:45+02:00"),
        # Far from here the day is another one.
        (
            weekly("mon", "01:00", "02:00", "Pacific/Auckland"),
            "2026-11-29T12:30+00:00",
            "2026-11-29T12:00+00:00",
            "2026-11-29T13:00+00:00",
        ),
    ],
)
def test_a_weekly_window_opens_at_local_time(window: Weekly, now: str, start: str, end: str) -> None:
    assert window.opening(at(now)) == Opening(at(start), at(end))
    assert decoded(window.encode()) == window


@given(
    days=strategies.frozensets(strategies.integers(0, 6), min_size=1),
    times=strategies.tuples(strategies.times(), strategies.times()).map(
        lambda pair: tuple(time.replace(second=0, microsecond=0) for time in pair)
    ),
    zone=strategies.sampled_from([BERLIN, "UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
    now=strategies.floats(at("2020-01-01T00:00+00:00"), at("2035-01-01T00:00+00:00")),
)
def test_the_next_opening_is_the_first_one_that_has_not_ended(days: Any, times: Any, zone: str, now: float) -> None:
    """Checked minute by minute against the definition is too slow; by local days it is the same."""
    window = Weekly(days, times[0], times[1], zone)
    opening = window.opening(now)
    assert opening is not None
    assert opening.end > now
    assert opening.start < opening.end <= opening.start + 86_400 + 3600
    assert datetime.fromtimestamp(opening.start, ZoneInfo(zone)).weekday() in days
    before = window.opening(opening.start - 7 * 86_400 - 7200)
    assert before is not None
    assert before.start < opening.start
    following = window.opening(opening.end)
    assert following is not None
    assert following.start > opening.start


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        (BERLIN, "2026-03-29"),
        (BERLIN, "2026-10-25"),
        ("America/New_York", "2026-03-08"),
        ("America/New_York", "2026-11-01"),
        ("America/Santiago", "2026-09-06"),  # it skips midnight
        ("Australia/Lord_Howe", "2026-10-04"),  # by half an hour
        ("Pacific/Apia", "2011-12-30"),  # it skips the day
    ],
)
@pytest.mark.parametrize(
    ("start", "end"), [("02:30", "04:00"), ("02:00", "02:30"), ("23:30", "00:30"), ("02:20", "02:10")]
)
def test_while_clocks_show_a_time_of_the_window_it_is_open(zone: str, day: str, start: str, end: str) -> None:
    """Every ten minutes around a change of the clocks; in a repeated hour it may be open for longer."""
    here, window = ZoneInfo(zone), weekly("mon-sun", start, end, zone)
    noon = datetime.fromisoformat(f"{day}T12:00+00:00").timestamp()
    for minute in range(-18 * 60, 18 * 60, 10):
        now = noon + 60 * minute
        local = datetime.fromtimestamp(now, here)
        shown = f"{local:%H:%M}"
        inside = start <= shown < end if start < end else shown >= start or shown < end
        is_repeated = local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
        opening = window.opening(now)
        assert opening is not None
        assert opening.start <= now or not inside, f"{local} is inside"
        assert opening.start > now or inside or is_repeated, f"{local} is outside"


@pytest.mark.parametrize(
    ("given_days", "numbers"),
    [
        (["mon"], {0}),
        ("mon-fri", {0, 1, 2, 3, 4}),
        (["Sat", "sunday"], {5, 6}),
        ("fri-mon", {4, 5, 6, 0}),
        ("sun,wed", {6, 2}),
    ],
)
def test_days_have_names(given_days: Any, numbers: set[int]) -> None:
    assert days_of(given_days) == numbers


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: days_of(["monkey"]), "days: "),
        (lambda: days_of([""]), "days: "),
        (lambda: Weekly(frozenset(), clock_time("from", "01:00"), clock_time("to", "02:00")), "days: "),
        (lambda: clock_time("from", "25:00"), "from: must be a time of day as 02:30"),
        (lambda: clock_time("to", "2:30"), "to: "),
        (lambda: clock_time("to", "02:30+01:00"), "to: "),
        (lambda: weekly("mon", "01:00", "02:00", "Europe/Atlantis"), "timezone: "),
        (lambda: weekly("mon", "01:00", "02:00", "../../etc/passwd"), "timezone: "),
        (lambda: weekly("mon", "01:00", "02:00", ""), "timezone: "),
        (lambda: moment("from", "tomorrow"), "from: must be a time as "),
        (lambda: days_of([None]), "days: "),  # type: ignore[list-item]
        (lambda: days_of(5), "days: "),  # type: ignore[arg-type]
        (lambda: planned("2099-01-01T00:00Z", "2099-01-02T00:00Z", (), None), "timezone: "),  # type: ignore[arg-type]
        (lambda: planned("2026-03-29T02:00", "2026-03-29T02:45", (), BERLIN), "to: must be after from"),
    ],
)
def test_what_cannot_be_planned_is_refused_by_field(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


def test_moments_have_an_offset_or_are_utc() -> None:
    texts = ("2026-12-24T22:00:00Z", "2026-12-24T23:00:00+01:00", "2026-12-24T22:00:00.000+00:00", "2026-12-24T22:00")
    assert {moment("from", text) for text in texts} == {at("2026-12-24T22:00:00+00:00")}
    assert schedule.decoded("") is None
    assert schedule.decoded(Once(1.5, 2.5).encode()) == Once(1.5, 2.5)


@pytest.mark.parametrize(
    ("start", "end", "opens", "closes"),
    [
        ("2026-03-29T02:30", "2026-03-29T03:30", "2026-03-29T03:00+02:00", "2026-03-29T03:30+02:00"),
        ("2026-03-29T01:00", "2026-03-29T02:30", "2026-03-29T01:00+01:00", "2026-03-29T03:00+02:00"),
        ("2026-10-25T01:00", "2026-10-25T02:30", "2026-10-25T01:00+02:00", "2026-10-25T02:30+01:00"),
        ("2026-10-25T02:30", "2026-10-25T02:45", "2026-10-25T02:30+02:00", "2026-10-25T02:45+01:00"),
    ],
)
def test_a_window_that_is_open_once_follows_the_clock_too(start: str, end: str, opens: str, closes: str) -> None:
    assert planned(start, end, (), BERLIN) == Once(at(opens), at(closes))
