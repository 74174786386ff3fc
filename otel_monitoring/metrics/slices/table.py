"""`SliceTable`: the slices of a service, in a store that its processes share."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class SliceRow(NamedTuple):
    """A slice as it is stored.

    Attributes:
        tier: Length of its slot, in seconds.
        start: Start of its slot, in Unix seconds.
        service: Opaque bytes: the figures of the service.
        routes: Opaque bytes: those of its routes; empty where they were not read.
    """

    tier: int
    start: int
    service: bytes
    routes: bytes


class Position(NamedTuple):
    """What the slices contain, as their writer notes it.

    Attributes:
        version: A text that no other position has.
        content: Opaque bytes.
    """

    version: str
    content: bytes


class SliceTable(Protocol):
    """Slices by tier and start, and the position of their writer. Methods may be called from any thread.

    Each raises `StoreError` where the store fails; whether the change took effect is unknown then.
    """

    @property
    def routes_limit(self) -> int:
        """The most routes that a row should have, because of the room that rows may take."""

    def position(self) -> Position | None:
        """The position; None: nothing was ever written."""

    def advance(self, before: str, position: Position, rows: Sequence[SliceRow]) -> bool:
        """Replace the position and the rows of the same tier and start, in one transaction.

        Args:
            before: The version that is replaced, empty where there is no position.
            position: The new position.
            rows: The rows.

        Returns:
            False: the position has another version, and nothing was changed.
        """

    def read(self, tier: int, start: int, end: int, *, routes: bool = False) -> Sequence[SliceRow]:
        """The rows of a tier whose slots begin from `start` on and before `end`, in this order.

        Args:
            tier: Length of the slots.
            start: Unix seconds.
            end: Unix seconds.
            routes: Whether to read the routes, too.
        """

    def starts(self, tier: int, start: int, end: int) -> Sequence[int]:
        """The starts of the rows that `read` returns."""

    def prune(self, tier: int, start: int, end: int) -> None:
        """Delete the rows of a tier whose slots begin before `start`, or from `end` on."""
