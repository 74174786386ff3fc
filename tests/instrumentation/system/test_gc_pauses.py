"""Pauses of the real collector are noted, bounded, and cost the collector nothing that could block it."""

import gc
from collections.abc import Iterator

import pytest

from otel_monitoring.instrumentation.system.gc_pauses import GcPauses


@pytest.fixture(autouse=True)
def _nobody_else_collects() -> Iterator[None]:
    """While another thread collects, `gc.collect` does nothing."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def pauses() -> Iterator[GcPauses]:
    pauses = GcPauses()
    pauses.attach()
    yield pauses
    pauses.detach()


def test_collections_are_noted_by_generation(pauses: GcPauses) -> None:
    gc.collect(2)
    gc.collect(0)
    noted, longest = pauses.take()
    assert {0, 2} <= {generation for generation, _ in noted}
    assert all(seconds > 0 for _, seconds in noted)
    assert longest == max(seconds for _, seconds in noted)
    assert pauses.total == pytest.approx(sum(seconds for _, seconds in noted))


def test_taken_once(pauses: GcPauses) -> None:
    gc.collect(1)
    pauses.take()
    assert pauses.take() == ([], 0.0)


def test_memory_is_bounded_and_the_total_misses_none(pauses: GcPauses) -> None:
    for _ in range(2000):
        gc.collect(0)
    noted, _ = pauses.take()
    assert len(noted) <= 3 * 256
    assert pauses.total > sum(seconds for _, seconds in noted)


def test_attached_once_and_gone_when_detached() -> None:
    before = list(gc.callbacks)
    pauses = GcPauses()
    pauses.attach()
    pauses.attach()
    assert len(gc.callbacks) == len(before) + 1
    pauses.detach()
    pauses.detach()
    assert gc.callbacks == before
    gc.collect(0)
    assert pauses.total == 0


def test_attached_in_the_middle_of_a_collection() -> None:
    pauses = GcPauses()

    class AttachesWhenCollected:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            pauses.attach()

    AttachesWhenCollected()
    try:
        gc.collect()
        assert pauses.total == 0
        gc.collect()
        assert pauses.total > 0
    finally:
        pauses.detach()
