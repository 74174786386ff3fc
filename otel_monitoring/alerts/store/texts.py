"""`Texts`: opaque texts by key, such as the states of the alerts of rules, and who has acknowledged which alert."""

from collections.abc import Mapping
from typing import Protocol


class Texts(Protocol):
    """Texts by key."""

    def saved(self) -> dict[str, str]:
        """All saved texts by key."""

    def save(self, states: Mapping[str, str | None]) -> None:
        """Save texts by key; None deletes the text."""
