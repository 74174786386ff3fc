"""The endpoints over a range: figures of all of it, and a course with gaps."""

import json

import pytest

from otel_monitoring.alerts import AlertManager
from otel_monitoring.alerts.store import MemoryStore
from otel_monitoring.errors import StoreError
from otel_monitoring.metrics.slices.model import Requests, Slice
from otel_monitoring.metrics.slices.table import Position
from otel_monitoring.status_page.endpoints_past import RANGES, EndpointsPast
from tests.health.test_series import row
from tests.metrics.slices.test_model import durations_of

pytestmark = pytest.mark.anyio
NOW = 1_800_003_605.0
HOUR = 1_800_003_600


def past() -> tuple[EndpointsPast, MemoryStore]:
    store = MemoryStore()
    one = Slice(10.0, routes={"/a": Requests(durations_of(*[0.1] * 20), 1), "/b": Requests(durations_of(0.9))})
    other = Slice(10.0, routes={"/a": Requests(durations_of(*[0.1] * 10), 2)})
    store.slices.advance(
        "", Position("one", b""), [row(HOUR - 172_800, one, 3600), row(HOUR - 600, one), row(HOUR - 10, other)]
    )
    manager = AlertManager(channels=[], store=store, clock=lambda: NOW)
    return EndpointsPast(lambda: manager), store


def test_each_endpoint_has_the_figures_of_the_range_and_its_course() -> None:
    answer = past()[0].answer("15m")
    (first, rate, p50, p95, errors, course), other = answer["endpoints"]
    assert (first, rate, errors) == ("/a", 1.5, 10.0)
    assert p50 == pytest.approx(0.1, rel=0.05)
    assert p95 == pytest.approx(0.1, rel=0.05)
    assert answer["step"] == RANGES["15m"] == 60
    assert course == [None] * 5 + [20] + [None] * 8 + [10]
    assert other[0] == "/b"
    assert other[-1] == [None] * 5 + [1] + [None] * 8 + [0]


@pytest.mark.parametrize("span", RANGES)
def test_every_range_has_a_course_that_fits_into_a_row(span: str) -> None:
    assert 15 <= len(past()[0].answer(span)["endpoints"][0][-1]) <= 36


async def test_pages_of_the_same_range_share_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    found, store = past()
    body = await found.next("15m")
    assert json.loads(body.plain)["range"] == "15m"

    def away(*_: object, **__: object) -> None:
        raise StoreError("no disk")

    monkeypatch.setattr(store.slices, "read", away)
    assert await found.next("15m") is body
    with pytest.raises(StoreError, match="no disk"):
        await found.next("1h")
