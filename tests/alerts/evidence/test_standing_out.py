"""Which values explain a rise: those with more of it than usual, and never by chance."""

import pytest

from otel_monitoring.alerts.evidence.standing_out import Part, standing_out


def parts(**shares: tuple[float, float]) -> list[Part]:
    return [Part(name, rise, usual) for name, (rise, usual) in shares.items()]


def test_the_value_with_the_rise_stands_out() -> None:
    found = standing_out(parts(a=(95, 0.1), b=(3, 0.5), c=(2, 0.4)), 100)
    assert found is not None
    assert (found.names, found.share, found.usual) == (("a",), 0.95, 0.1)
    assert found.score == pytest.approx(0.944, abs=0.001)


def test_no_value_stands_out_where_each_has_its_usual_share() -> None:
    assert standing_out(parts(a=(52, 0.5), b=(30, 0.3), c=(18, 0.2)), 100) is None


def test_values_that_explain_it_together_are_named_together() -> None:
    found = standing_out(parts(a=(50, 0.25), b=(48, 0.25), c=(1, 0.25), d=(1, 0.25)), 100)
    assert found is not None
    assert found.names == ("a", "b")


def test_all_values_together_explain_nothing() -> None:
    assert standing_out(parts(a=(50, 0.5), b=(50, 0.5)), 100) is None
    assert standing_out(parts(a=(100, 1.0)), 100) is None


@pytest.mark.parametrize(("events", "stands_out"), [(3, False), (5, False), (6, True), (40, True)])
def test_few_events_may_be_in_one_place_by_chance(events: float, stands_out: bool) -> None:
    assert (standing_out(parts(a=(events, 0.5), b=(0, 0.5)), events) is not None) is stands_out


@pytest.mark.parametrize(("events", "stands_out"), [(2, False), (3, True)])
def test_the_more_values_there_are_the_likelier_one_has_them_all_by_chance(events: float, stands_out: bool) -> None:
    others = [Part(f"other {number}", 0.0, 1 / 12) for number in range(11)]
    assert (standing_out([Part("one", events, 1 / 12), *others], events) is not None) is stands_out


def test_what_falls_explains_no_rise() -> None:
    assert standing_out(parts(a=(-10, 0.1), b=(0, 0.9)), 100) is None


def test_a_part_of_a_larger_rise_does_not_explain_it() -> None:
    assert standing_out(parts(a=(10, 0.0)), 100, whole=100) is None
