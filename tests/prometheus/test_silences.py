"""A mute as a silence, and which silences are mutes."""

from typing import Any

import pytest

from otel_monitoring.alerts.mute import Mute
from otel_monitoring.alerts.selection import Selection
from otel_monitoring.prometheus.silences import Silences

SILENCES = Silences("orders", "production")


def answered(mute: Mute, **changed: Any) -> dict[str, Any]:
    """The silence as Alertmanager lists it."""
    return {**SILENCES.silence_of(mute, 1000.0), "id": "1", "status": {"state": "active"}, **changed}


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
    assert SILENCES.mute_of(answered(mute)) == mute


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
    assert SILENCES.mute_of(answered(Mute(Selection.of("database_down"), 5000.0), **changed)) is None


def test_labels_have_the_names_that_alertmanager_allows() -> None:
    matchers = SILENCES.silence_of(Mute(Selection.of("custom", labels={"http.method": "GET"}), 5000.0), 0.0)["matchers"]
    assert matcher("http_method", "GET") in matchers
