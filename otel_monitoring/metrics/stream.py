"""`MeasurementStream`: what the processes of a service measured, in a store that they share."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol


class Delta(NamedTuple):
    """What a process measured since its previous delta.

    Attributes:
        writer: The process.
        number: 1, 2, 3 and so on: which of its deltas it is.
        content: Opaque bytes.
    """

    writer: str
    number: int
    content: bytes


class Base(NamedTuple):
    """The sum of many deltas, which it replaces.

    Attributes:
        version: A text that no other base has.
        content: Opaque bytes.
        age: Seconds since it was written, by the store's clock.
    """

    version: str
    content: bytes
    age: float


class MeasurementStream(Protocol):
    """The deltas of all processes and a base, which replaces the older ones. Methods may be called from any thread.

    Each raises `StoreError` where the store fails; whether the change took effect is unknown then.
    """

    @property
    def problem(self) -> str | None:
        """Why only some of the processes use it at present, in one line; None: all of them do.

        What they add is added to the stream of all of them later. Until then a base replaces no deltas.
        """

    def add(self, *deltas: Delta) -> None:
        """Append deltas, those of each writer in order; one with the same writer and number stays as it is."""

    def read(self, known: Mapping[str, int]) -> tuple[Sequence[Delta], str]:
        """The deltas beyond those that are known, those of each writer in order, and the version of the base.

        The version is not older than the deltas: a delta that is missing because a base replaced it is in that version
        or an older one.

        Args:
            known: By writer, the number of its last known delta; all deltas of other writers are returned.

        Returns:
            Deltas, and the version; empty: there is no base.
        """

    def base(self) -> Base | None:
        """The base; None: there is none."""

    def replace_base(self, before: str, version: str, content: bytes, deleted: Mapping[str, int]) -> bool:
        """Replace the base, then delete deltas that the new one contains.

        Args:
            before: The version that is replaced, empty where there is no base.
            version: The new version.
            content: The new base.
            deleted: By writer, the number of the last delta to delete.

        Returns:
            False: the base has another version, and nothing was changed.
        """

    def clear(self) -> None:
        """Delete the deltas and the base."""
