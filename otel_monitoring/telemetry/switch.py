"""`Switch`: what stays in a provider, from which no processor can be removed, while its target changes."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

P = TypeVar("P")


class Switch(Generic[P]):
    """The target of spans or log records: the processors that export them, as one.

    Args:
        together: Makes one processor of several.

    Attributes:
        target: The processor that exports; None: nothing is exported.
    """

    def __init__(self, together: Callable[[Sequence[P]], P]) -> None:
        self._together = together
        self._fed: tuple[P, ...] = ()
        self.target: P | None = None

    def feed(self, processor: P, *, on: bool) -> None:
        """Begin or end to export by `processor`; there may be several."""
        others = tuple(one for one in self._fed if one is not processor)
        self._fed = (*others, processor) if on else others
        self.target = self._together(self._fed) if len(self._fed) > 1 else next(iter(self._fed), None)

    def feed_none(self) -> None:
        """Export by none any more, as in a forked child."""
        self._fed, self.target = (), None
