"""`Mutes`: which alerts are recorded but not notified."""

from collections.abc import Mapping
from typing import Protocol

from otel_monitoring.alerts.model import AlertType, Mute

MUTES_LIMIT = 1000
"""The most mutes in force."""


class Mutes(Protocol):
    """The mutes in force."""

    def add(self, mute: Mute) -> None:
        """Add a mute; it replaces one of the same type and labels."""

    def remove(self, alert_type: AlertType, labels: Mapping[str, str] | None = None) -> int:
        """End all mutes of a type, or the one with exactly these labels; returns how many were ended."""

    def in_force(self, now: float) -> list[Mute]:
        """The mutes in force at `now`, in Unix seconds, in the order of their ends; expired ones are deleted."""


def mute_key(mute: Mute) -> tuple[AlertType, tuple[tuple[str, str], ...]]:
    """The identity of a mute, which sorts: a mute replaces another of the same key."""
    return mute.type, tuple(sorted(mute.labels.items()))
