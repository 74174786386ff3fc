"""`Updates`: what changes on the page, in one small answer."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from otel_monitoring.status_page.shared import Body, Shared

INTERVAL: Final = 2.0
"""The least seconds between two updates."""


class Updates:
    """Makes updates, each for all pages that ask within its interval.

    Args:
        make: Makes the content, True: with every endpoint, False: with those that a page shows first. It may block.
    """

    def __init__(self, make: Callable[[bool], Mapping[str, Any]]) -> None:
        self._make = make
        self._shared = {every: Shared(partial(self._made, every), INTERVAL) for every in (False, True)}

    def latest(self, *, every_endpoint: bool) -> Body | None:
        """The update while its interval lasts; None after that."""
        return self._shared[every_endpoint].latest()

    async def next(self, *, every_endpoint: bool) -> Body:
        """The update, made anew where its interval is over. One event loop calls this."""
        return await self._shared[every_endpoint].next()

    def _made(self, every_endpoint: bool) -> Body:
        figures = self._make(every_endpoint)
        return Body.of({**figures, "interval": round(self._shared[every_endpoint].interval, 1)})
