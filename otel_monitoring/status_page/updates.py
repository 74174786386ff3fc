"""`Updates`: what changes on the page, in one small answer."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from otel_monitoring.status_page.shared import Body, Shared

INTERVAL: Final = 2.0
"""The least seconds between two updates."""


class Content(NamedTuple):
    """What an update says.

    Attributes:
        figures: What changes all the time.
        routes: The names that some of the figures belong to. They change seldom, and a page that has them gets none.
        version: The version of `routes`.
    """

    figures: Mapping[str, Any]
    routes: Any
    version: str


class _Update(NamedTuple):
    """A content as it is sent, with the routes and without them."""

    whole: Body
    short: Body
    version: str

    def body(self, known: str) -> Body:
        return self.short if known == self.version else self.whole


class Updates:
    """Makes updates, each for all pages that ask within its interval.

    Args:
        make: Makes the content; it may block.
    """

    def __init__(self, make: Callable[[], Content]) -> None:
        self._make = make
        self._shared = Shared(self._made, INTERVAL)

    def latest(self, known: str) -> Body | None:
        """The update while its interval lasts; None after that.

        Args:
            known: The version of the routes that the page has; empty: none.
        """
        latest = self._shared.latest()
        return latest.body(known) if latest is not None else None

    async def next(self, known: str) -> Body:
        """The update, made anew where its interval is over. One event loop calls this.

        Args:
            known: As for `latest`.
        """
        return (await self._shared.next()).body(known)

    def _made(self) -> _Update:
        content = self._make()
        figures = {**content.figures, "interval": round(self._shared.interval, 1), "version": content.version}
        return _Update(Body.of({**figures, "routes": content.routes}), Body.of(figures), content.version)
