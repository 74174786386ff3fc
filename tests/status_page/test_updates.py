"""`Updates`: one for the pages that show the first endpoints, and one for those that show every one."""

import json
from typing import Any

import pytest

from otel_monitoring.status_page.updates import INTERVAL, Updates

pytestmark = pytest.mark.anyio


async def asked(updates: Updates, *, every_endpoint: bool) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads((await updates.next(every_endpoint=every_endpoint)).plain)
    return answer


async def test_all_pages_share_the_update_that_they_ask_for() -> None:
    made: list[bool] = []

    def make(every_endpoint: bool) -> dict[str, Any]:
        made.append(every_endpoint)
        return {"endpoints": ["/a", "/b"] if every_endpoint else ["/a"]}

    updates = Updates(make)
    assert updates.latest(every_endpoint=True) is None
    for _ in range(2):
        assert await asked(updates, every_endpoint=True) == {"endpoints": ["/a", "/b"], "interval": INTERVAL}
        assert await asked(updates, every_endpoint=False) == {"endpoints": ["/a"], "interval": INTERVAL}
    assert made == [True, False]
