"""`StatusSince`: since when the status holds, over restarts, and to the second where somebody looks."""

import pytest

from otel_monitoring.alerts.store import MemoryStore
from otel_monitoring.errors import StoreError
from otel_monitoring.metrics.slices.codec import encoded_routes, encoded_service
from otel_monitoring.metrics.slices.model import FINEST, TIERS, GaugeFigures, Slice
from otel_monitoring.metrics.slices.table import Position, SliceRow
from otel_monitoring.status_page.status_since import StatusSince

NOW = 1_800_000_005.0
HERE = FINEST.slot(NOW)
HEALTHY, DEGRADED, UNHEALTHY = 0.0, 1.0, 2.0


def row(start: int, level: float | None, tier: int = FINEST.seconds) -> SliceRow:
    gauges = {} if level is None else {"status": GaugeFigures(1, level, level, level)}
    return SliceRow(tier, start, encoded_service(Slice(seconds=tier, gauges=gauges)), encoded_routes({}))


def since(*rows: SliceRow) -> StatusSince:
    store = MemoryStore()
    store.slices.advance("", Position("one", b""), rows)
    return StatusSince(lambda: store.slices)


def test_it_is_the_end_of_the_newest_slice_with_another_status() -> None:
    rows = [row(HERE - 10 * place, UNHEALTHY if place == 5 else HEALTHY) for place in range(30)]
    assert since(*rows).of("healthy", NOW) == HERE - 40


def test_a_status_that_no_slice_has_yet_holds_since_now() -> None:
    rows = [row(HERE - 10 * place, HEALTHY) for place in range(30)]
    assert since(*rows).of("unhealthy", NOW) == NOW
    assert since().of("healthy", NOW) == NOW


def test_coarser_slices_go_on_where_finer_ones_end() -> None:
    fine = [row(HERE - 10 * place, HEALTHY) for place in range(360)]
    hour = TIERS[-1].slot(HERE - 3600)
    coarse = [row(hour - 3600 * place, DEGRADED if place == 50 else HEALTHY, 3600) for place in range(100)]
    assert since(*fine, *coarse).of("healthy", NOW) == hour - 3600 * 49


def test_a_restart_does_not_end_a_status_but_a_longer_gap_does() -> None:
    def rows(gap: int) -> list[SliceRow]:
        return [row(HERE - 10 * place - (gap if place > 5 else 0), HEALTHY) for place in range(30)]

    assert since(*rows(30)).of("healthy", NOW) == HERE - 290 - 30
    assert since(*rows(600)).of("healthy", NOW) == HERE - 50


def test_slices_of_a_version_without_the_status_are_a_gap() -> None:
    rows = [row(HERE - 10 * place, HEALTHY if place < 4 else None) for place in range(30)]
    assert since(*rows).of("healthy", NOW) == HERE - 30


def test_where_somebody_looks_it_is_known_to_the_second() -> None:
    known = since(row(HERE, HEALTHY))
    assert known.of("healthy", NOW) == HERE
    assert known.of("unhealthy", NOW + 2) == NOW + 2
    assert known.of("unhealthy", NOW + 4) == NOW + 2


def test_after_a_pause_only_what_happened_meanwhile_is_read() -> None:
    store = MemoryStore()
    store.slices.advance("", Position("one", b""), [row(HERE - 10 * place, HEALTHY) for place in range(30)])
    known = StatusSince(lambda: store.slices)
    assert known.of("healthy", NOW) == HERE - 290
    store.slices.prune(FINEST.seconds, HERE, HERE + 1000)  # what was read before is not read again
    store.slices.advance("one", Position("two", b""), [row(HERE + 10 * place, HEALTHY) for place in range(1, 13)])
    assert known.of("healthy", NOW + 120) == HERE - 290
    store.slices.advance("two", Position("three", b""), [row(HERE + 10 * place, HEALTHY) for place in range(14, 25)])
    store.slices.advance("three", Position("four", b""), [row(HERE + 130, UNHEALTHY)])
    assert known.of("healthy", NOW + 240) == HERE + 140


def test_a_store_that_fails_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()

    def away(*_: object, **__: object) -> None:
        raise StoreError("no disk")

    monkeypatch.setattr(store.slices, "read", away)
    assert StatusSince(lambda: store.slices).of("healthy", NOW) is None
