"""How often rounds are repeated: so many times, or in a quick run until the section's share of the time is over."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True)
class Rounds:
    """The numbers of the rounds of a section, from 0; its text is how many there will be.

    Attributes:
        most: How many rounds there are where nothing ends them.
        least: So many there are even if the time is over.
        seconds: After them no round begins, from the first on: on a slow machine there are fewer rounds.
        clock: Seconds that pass.
    """

    most: int
    least: int = 1
    seconds: float = inf
    clock: Callable[[], float] = time.monotonic

    def __iter__(self) -> Iterator[int]:
        began = self.clock()
        for number in range(self.most):
            if number >= self.least and self.clock() - began >= self.seconds:
                return
            yield number

    def __str__(self) -> str:
        return f"{self.most}" if self.seconds == inf else f"{self.least} to {self.most}"
