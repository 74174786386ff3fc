"""`StatusSince`: since when the service has its status, from the slices of the past."""

import math
from collections.abc import Callable
from typing import Final

from otel_monitoring.errors import StoreError
from otel_monitoring.health.readings import STATUS, STATUS_LEVELS
from otel_monitoring.metrics.slices.codec import decoded_slices
from otel_monitoring.metrics.slices.model import FINEST, TIERS
from otel_monitoring.metrics.slices.table import SliceRow, SliceTable

_CONTINUOUS: Final = 30.0
"""Seconds without a question after which the status may have changed and changed back."""
_RESTART: Final = 60.0
"""Seconds in which nobody measured that a status outlasts."""


class StatusSince:
    """Knows since when a status holds. One thread at a time uses it.

    Args:
        table: Returns the slices.
    """

    def __init__(self, table: Callable[[], SliceTable]) -> None:
        self._table = table
        self._status = ""
        self._since: float | None = None
        self._asked = 0.0

    def of(self, status: str, now: float) -> float | None:
        """Since when the status holds, in Unix seconds; None: the store of the past failed.

        Args:
            status: The status of now.
            now: Unix seconds.
        """
        if self._since is None or not 0 <= now - self._asked <= _CONTINUOUS:
            self._since = self._search(status, now)
        elif status != self._status:
            self._since = now
        self._status, self._asked = status, now
        return self._since

    def _search(self, status: str, now: float) -> float | None:
        """The end of the newest slice with another status, or of the newest gap; the oldest slice if there is none."""
        level, since = STATUS_LEVELS.get(status), now
        known = self._since if status == self._status else None
        try:
            for tier in TIERS:
                for row in reversed(self._table().read(tier.seconds, int(now) - tier.kept, math.ceil(since))):
                    end = row.start + tier.seconds
                    if since - end > max(_RESTART, 2 * tier.seconds):
                        return since
                    if end > since and tier is not FINEST:
                        continue  # finer slices have said more of this time
                    if _level(row) != level:
                        return min(since, float(end))
                    since = float(row.start)
                    if known is not None and since <= self._asked:
                        return known
        except StoreError:
            return None
        return since


def _level(row: SliceRow) -> float | None:
    for content in decoded_slices([row]):
        if STATUS in content.gauges:
            return content.gauges[STATUS].most
    return None
