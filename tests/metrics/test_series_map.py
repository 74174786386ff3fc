"""What a history costs is counted: series that are looked at, and bytes that are copied, for each snapshot."""

import random
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_monitoring.metrics.series_map import SeriesMap
from otel_monitoring.metrics.snapshot import Histogram, Series, Snapshot
from otel_monitoring.metrics.window import History

SPAN, TICK = 60.0, 10.0
ONE = Histogram(count=1, sum=0.5, min=0.5, max=0.5)


class Counted(Series):
    """A series that counts how often a mapping looks at it."""

    looked = 0

    def __hash__(self) -> int:
        Counted.looked += 1
        return super().__hash__()


def series(number: int) -> Series:
    return Counted("http.server.request.duration", (("http.route", f"/{number}"),))


KINDS: dict[str, Callable[[list[Series]], dict[str, Any]]] = {
    "histograms": lambda changed: {"histograms": dict.fromkeys(changed, ONE)},
    "sums": lambda changed: {"sums": dict.fromkeys(changed, 1.0)},
    "gauges": lambda changed: {"gauges": dict.fromkeys(changed, 1.0)},
}


def cost(known: int, kind: str) -> tuple[float, float]:
    """Looks at series, and bytes copied, of an `add` that changes three of the `known` ones; on average."""
    every = [series(number) for number in range(known)]
    history = History(0.0, span=SPAN, resolution=TICK)
    history.add(Snapshot(0.0, TICK, **KINDS[kind](every)))
    now, copied = TICK, 0
    for _ in range(int(SPAN / TICK) + 2):  # until the first has left the window
        history.add(Snapshot(now, now := now + TICK, **KINDS[kind](every[:3])))
    rounds, looked = 20, Counted.looked
    for round_ in range(rounds):
        changed = every[round_ * 3 : round_ * 3 + 3]
        snapshot = Snapshot(now, now := now + TICK, **KINDS[kind](changed))
        looked += 3  # the snapshot's own
        tracemalloc.start()
        history.add(snapshot)
        copied += tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (history.recent, history.total, history.gauges) is not None  # readers may keep each of them
    return (Counted.looked - looked) / rounds, copied / rounds


@pytest.mark.parametrize("kind", KINDS)
def test_a_snapshot_costs_what_changed_however_many_series_are_known(kind: str) -> None:
    (looks, copied), (more_looks, more_copied) = cost(100, kind), cost(10_000, kind)
    assert more_looks == looks < 3 * 20
    assert more_copied < 5 * copied, "the series are a hundred times as many"


def test_a_metric_that_did_not_change_is_not_read_again() -> None:
    history = History(0.0, span=SPAN, resolution=TICK)
    history.add(Snapshot(0.0, TICK, {Series("a", (("k", n),)): ONE for n in range(100)}, {Series("b"): 1.0}))
    before = history.recent.histograms("a"), history.recent.grouped("a", "k")
    history.add(Snapshot(TICK, 2 * TICK, {}, {Series("b"): 1.0}))
    assert (history.recent.histograms("a"), history.recent.grouped("a", "k")) == before
    assert history.recent.histograms("a") is before[0]
    assert history.recent.grouped("a", "k") is before[1]
    assert history.recent.sums("b") == [(Series("b"), 2.0)]


names = st.builds(Series, st.sampled_from("abc"), st.tuples(st.tuples(st.just("k"), st.integers(0, 60))))


@given(st.lists(st.dictionaries(names, st.none() | st.integers(1, 9), max_size=60), max_size=20))
@pytest.mark.slow
def test_it_is_a_mapping_like_any_other_and_never_changes(rounds: list[dict[Series, int | None]]) -> None:
    plain: dict[Series, int] = {}
    found: SeriesMap[int] = SeriesMap({})
    kept: list[tuple[SeriesMap[int], dict[Series, int]]] = []
    for values in rounds:
        given_ = {key: value or 0 for key, value in values.items()}
        found = found.changed(given_, lambda _series, known, value: (known or 0) + value if value else None)
        for key, value in values.items():
            if value is None:
                plain.pop(key, None)
            else:
                plain[key] = plain.get(key, 0) + value
        kept.append((found, dict(plain)))
    for mapping, expected in kept:
        assert mapping == expected
        assert len(mapping) == len(expected)
        assert set(mapping) == set(expected)
        assert all(mapping[key] == value for key, value in expected.items())
        for name in "abc":
            group = mapping.group(name)
            assert dict(group.items() if group else ()) == {k: v for k, v in expected.items() if k.name == name}


def test_thousands_of_series_come_and_go() -> None:
    found: SeriesMap[int] = SeriesMap({})
    order = [Series("a", (("k", number),)) for number in range(3000)]
    random.Random(7).shuffle(order)
    for one in order:
        found = found.changed({one: 1}, lambda _series, _known, value: value)
    assert len(found) == 3000
    assert found == dict.fromkeys(order, 1)
    found = found.changed(dict.fromkeys(order, 1), lambda _series, _known, _value: None)
    assert (len(found), found.group("a")) == (0, None)
