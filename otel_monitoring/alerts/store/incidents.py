"""`Incidents`: the states of the alerts of rules, from one evaluation to the next."""

from collections.abc import Mapping
from typing import Protocol


class Incidents(Protocol):
    """The states of alerts, opaque texts by key."""

    def saved(self) -> dict[str, str]:
        """All saved states by key."""

    def save(self, states: Mapping[str, str | None]) -> None:
        """Save states by key; None deletes the state."""
