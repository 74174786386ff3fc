"""`Notes`: when something was notified, given up or ended, by a key that the caller chooses."""

from typing import Protocol

NOTES_LIMIT = 10_000
"""The number of notes that are kept."""

NOTES_SECONDS = 86_400.0
"""Seconds that a note is kept."""


class Notes(Protocol):
    """The time of the last note of each key."""

    def noted_at(self, key: str) -> float | None:
        """The time of the last note for `key`, in Unix seconds; None: there is none, or it was deleted."""

    def note(self, key: str, now: float) -> None:
        """Note the time `now`, in Unix seconds, for `key`.

        Notes older than `NOTES_SECONDS`, and the oldest beyond `NOTES_LIMIT`, may be deleted.
        """

    def all(self) -> dict[str, float]:
        """The time of each key, in Unix seconds."""

    def clear(self) -> None:
        """Delete all notes."""
