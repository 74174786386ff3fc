"""A mute, a window and an acknowledgement as silences, and which silences are these."""

from datetime import time
from typing import Any

import pytest

from otel_monitoring.alerts.mute import Mute
from otel_monitoring.alerts.schedule import Once, Weekly
from otel_monitoring.alerts.selection import Selection
from otel_monitoring.prometheus.silences import Silence, Silences, Wanted

SILENCES = Silences("orders", "production")


def answered(wanted: Wanted, **changed: Any) -> dict[str, Any]:
    """The silence as Alertmanager lists it."""
    return {**SILENCES.silence_of(wanted), "id": "1", "status": {"state": "active"}, **changed}


def read(wanted: Wanted, **changed: Any) -> Silence | None:
    return SILENCES.silence_from(0, answered(wanted, **changed))


@pytest.mark.parametrize(
    "mute",
    [
        Mute(Selection.of("database_down"), 5000.0, "ana", "known"),
        Mute(Selection.of("api_timeout", labels={"endpoint": "/api/orders/{id}"}), 5000.0),
        Mute(Selection.of(rules="backlog"), 5000.0, "ana"),
        Mute(Selection.of(labels={"endpoint": "/a"}), 5000.0),
    ],
)
def test_a_mute_comes_back_as_it_was(mute: Mute) -> None:
    assert read(Wanted(mute, 1000.0)) == Silence(0, "1", mute, 1000.0)


@pytest.mark.parametrize("state", ["active", "pending"])
@pytest.mark.parametrize("selection", [Selection(), Selection.of("database_down"), Selection.of(rules="backlog")])
def test_a_window_is_a_silence_from_its_next_opening_to_its_end(selection: Selection, state: str) -> None:
    window = Mute(selection, float("inf"), "ana", "deploy", Weekly(frozenset({0}), time(2), time(4)))
    wanted = Wanted.of_window(window, 4 * 86_400)
    assert wanted is not None
    found = read(wanted, status={"state": state})
    assert found is not None
    assert (found.mark, found.acknowledges) == (window.id, None)
    monday = 4 * 86_400.0
    assert found.mute == Mute(selection, monday + 14_400, "ana", "deploy", Once(monday + 7200, monday + 14_400))
    assert found.serves(wanted, monday)
    next_week = Wanted.of_window(window, monday + 14_400)
    assert next_week is not None
    assert found.is_for(next_week)
    assert not found.serves(next_week, monday + 14_400)


def test_a_window_that_is_over_is_no_silence() -> None:
    assert Wanted.of_window(Mute(Selection(), 20.0, schedule=Once(10.0, 20.0)), 20.0) is None


def test_an_acknowledgement_is_a_silence_that_is_made_longer_in_time() -> None:
    mute = Mute(Selection.of(rules="slow", labels={"endpoint": "/a"}), 4600.0, "ana", "on it")
    wanted = Wanted.of_acknowledged("0123456789abcdef", mute, 1000.0)
    found = read(wanted)
    assert found is not None
    assert (found.acknowledges, found.mute, found.start) == ("0123456789abcdef", mute, 1000.0)
    assert found.serves(wanted, 1000.0)
    later = Wanted.of_acknowledged("0123456789abcdef", Mute(mute.selection, 6500.0, "ana", "on it"), 1000.0)
    assert found.is_for(later)
    assert not found.serves(later, 2900.0)
    assert not found.is_for(Wanted(mute, 1000.0)), "a mute of the same alerts is another silence"


def test_a_pending_silence_of_a_person_is_no_mute_yet() -> None:
    assert read(Wanted(Mute(Selection.of("database_down"), 5000.0), 1000.0), status={"state": "pending"}) is None


def matcher(name: str, value: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "value": value, "isRegex": False, "isEqual": True, **more}


MINE = [matcher("service", "orders"), matcher("alert_type", "database_down")]


@pytest.mark.parametrize(
    "changed",
    [
        {"matchers": [matcher("service", "other"), MINE[1]]},
        {"matchers": [MINE[1]]},
        {"matchers": [MINE[0]]},
        {"matchers": [*MINE, matcher("environment", "staging")]},
        {"matchers": [*MINE, matcher("rule", "a|b", isRegex=True)]},
        {"matchers": [*MINE, matcher("endpoint", "/a", isEqual=False)]},
        {"status": {"state": "expired"}},
        {"endsAt": "never"},
        {"matchers": None},
    ],
)
def test_what_is_more_or_another_service_s_is_no_mute(changed: dict[str, Any]) -> None:
    assert read(Wanted(Mute(Selection.of("database_down"), 5000.0), 1000.0), **changed) is None


def test_labels_have_the_names_that_alertmanager_allows() -> None:
    wanted = Wanted(Mute(Selection.of("custom", labels={"http.method": "GET"}), 5000.0), 0.0)
    assert matcher("http_method", "GET") in SILENCES.silence_of(wanted)["matchers"]
