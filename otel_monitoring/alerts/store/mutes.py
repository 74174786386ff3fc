"""`Mutes`: which alerts are recorded but not notified."""

from typing import Protocol

from otel_monitoring.alerts.mute import Mute

MUTES_LIMIT = 1000
"""The most mutes, planned windows included."""


class Mutes(Protocol):
    """The mutes, planned windows included, until they end."""

    def add(self, mute: Mute) -> None:
        """Add a mute; it replaces one with the same key."""

    def remove(self, mute: Mute) -> bool:
        """End the mute with the key of `mute`; returns whether there was one."""

    def all(self, now: float) -> list[Mute]:
        """All that end after `now`, in Unix seconds, in the order of their ends; the others are deleted."""


def order(mute: Mute) -> tuple[float, tuple[str, str]]:
    """What mutes are sorted by: their end, and then their key."""
    return mute.until, mute.key
