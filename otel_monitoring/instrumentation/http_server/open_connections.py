"""`OpenConnections`: the requests and WebSockets that an application is handling."""

import asyncio
from time import monotonic
from typing import Final

_POLL_SECONDS: Final = 0.01


class OpenConnections:
    """The requests and WebSockets that an application is handling; usable in any thread."""

    def __init__(self) -> None:
        self._open: set[object] = set()
        self.began, self.ended = self._open.add, self._open.discard

    def __len__(self) -> int:
        """How many are being handled."""
        return len(self._open)

    async def all_ended(self, seconds: float) -> None:
        """Wait until all have ended, at most `seconds`: cancelled requests may still clean up."""
        until = monotonic() + seconds
        while self._open and monotonic() < until:  # noqa: ASYNC110 - they end in any thread
            await asyncio.sleep(_POLL_SECONDS)
