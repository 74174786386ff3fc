"""`Updates`: names of routes are sent to the pages that lack them."""

import json
from typing import Any

import pytest

from otel_monitoring.status_page.updates import INTERVAL, Content, Updates

pytestmark = pytest.mark.anyio


async def asked(updates: Updates, known: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads((await updates.next(known)).plain)
    return answer


async def test_names_of_routes_are_sent_where_they_are_not_known() -> None:
    content = Content({"status": "healthy"}, [["/a", "GET"]], "a")
    updates = Updates(lambda: content)
    assert (await asked(updates, ""))["routes"] == [["/a", "GET"]]
    short = await asked(updates, "a")
    assert short == {"status": "healthy", "interval": INTERVAL, "version": "a"}
    assert (await asked(updates, "of another worker"))["version"] == "a"
