"""`Texts`: opaque texts by key, such as the states of the alerts of rules, and who has acknowledged which alert."""

from collections.abc import Mapping
from typing import Final, Protocol

BESIDE: Final = "\x00"
"""In a key: what follows tells a further text of what precedes apart, of a host that was apart from the others."""


class Texts(Protocol):
    """Texts by key."""

    def saved(self) -> dict[str, str]:
        """All saved texts by key."""

    def save(self, states: Mapping[str, str | None]) -> None:
        """Save texts by key; None deletes the text."""
