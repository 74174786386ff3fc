"""`Conditions`: how each channel fares, told by the worker that delivers by it to all the others."""

from typing import Protocol


class Conditions(Protocol):
    """The conditions of the channels, opaque texts by channel."""

    def save(self, channel: str, condition: str) -> None:
        """Save the condition of a channel."""

    def saved(self) -> dict[str, str]:
        """The conditions by channel."""
