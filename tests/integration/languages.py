"""Whether a text that one pattern takes can contain what another finds: answered for every text of Latin-1."""

import re
import sys
from collections import deque
from collections.abc import Iterator
from importlib import import_module
from typing import Any

# How Python itself reads a pattern.
MODULES = (
    ("re._compiler", "re._parser", "re._constants")
    if sys.version_info >= (3, 11)
    else ("sre_compile", "sre_parse", "sre_constants")
)
compiler, parser, sre = (import_module(name) for name in MODULES)

CHARACTERS = [chr(code) for code in range(256)]
ALL = (1 << 256) - 1
WORD = sum(1 << ord(char) for char in CHARACTERS if re.match(r"\w", char, re.ASCII))


class Automaton:
    """States and edges of one pattern. An edge has the set of characters it takes, as bits, or 0 where it takes none,
    and whether it is a word boundary."""

    def __init__(self, pattern: str) -> None:
        self.edges: list[list[tuple[int, bool, int]]] = []
        parsed = parser.parse(pattern, re.ASCII)
        self.start = self._state()
        self.end = self._sequence(parsed, self.start, parsed.state.flags)

    def anywhere(self) -> "Automaton":
        """Takes texts in which the pattern is found."""
        for state in (self.start, self.end):
            self.edges[state].append((ALL, False, state))
        return self

    def _state(self) -> int:
        self.edges.append([])
        return len(self.edges) - 1

    def _edge(self, start: int, chars: int = 0, *, boundary: bool = False, end: int | None = None) -> int:
        end = self._state() if end is None else end
        self.edges[start].append((chars, boundary, end))
        return end

    def _sequence(self, nodes: Any, state: int, flags: int) -> int:
        for kind, value in nodes:
            state = self._node(kind, value, state, flags)
        return state

    def _node(self, kind: Any, value: Any, state: int, flags: int) -> int:
        if kind is sre.AT and value is not sre.AT_NON_BOUNDARY:
            # The beginning and the end are taken for true anywhere: that only finds more.
            return self._edge(state, boundary=value is sre.AT_BOUNDARY)
        if kind is sre.SUBPATTERN:
            return self._sequence(value[3], state, (flags | value[1]) & ~value[2])
        if kind is sre.BRANCH:
            end = self._state()
            for branch in value[1]:
                self._edge(self._sequence(branch, self._edge(state), flags), end=end)
            return end
        if kind in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            least, most, repeated = value
            return self._repeat(least, most, repeated, state, flags)
        if kind not in (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN):
            raise ValueError(f"{kind} is not known here")
        return self._edge(state, characters(kind, value, flags))

    def _repeat(self, least: int, most: Any, nodes: Any, state: int, flags: int) -> int:
        for _ in range(least):
            state = self._sequence(nodes, state, flags)
        if most is sre.MAXREPEAT:
            loop = self._edge(state)
            self._edge(self._sequence(nodes, loop, flags), end=loop)
            return self._edge(loop)
        end = self._edge(state)
        for _ in range(most - least):
            state = self._sequence(nodes, state, flags)
            self._edge(state, end=end)
        return end


def characters(kind: Any, value: Any, flags: int) -> int:
    """The set of characters that one element of a parsed pattern takes, as bits."""
    parsed = parser.SubPattern(parser.State(), [(kind, value)])
    parsed.state.str = ""
    parsed.state.flags = flags
    one = compiler.compile(parsed, flags)
    return sum(1 << ord(char) for char in CHARACTERS if one.fullmatch(char))


def common(whole: str, part: str) -> str | None:
    """A text that `whole` takes from its beginning to its end and in which `part` is found; None: there is none."""
    first, second = Automaton(whole), Automaton(part).anywhere()
    # Where both are, whether a word character came last, and whether one must come next (-1: either may).
    begin = (first.start, second.start, False, -1)
    texts = {begin: ""}
    queue = deque([begin])
    while queue:
        here = queue.popleft()
        if here[:2] == (first.end, second.end) and here[3] != 1:
            return texts[here]
        for char, there in _steps(first, second, *here):
            if there not in texts:
                texts[there] = texts[here] + char
                queue.append(there)
    return None


def _steps(
    first: Automaton, second: Automaton, a: int, b: int, word: bool, following: int
) -> Iterator[tuple[str, tuple[int, int, bool, int]]]:
    for chars, _, end in first.edges[a]:
        if not chars:  # a boundary here is taken for true: that only finds more
            yield "", (end, b, word, following)
    for chars, boundary, end in second.edges[b]:
        if boundary and following in (-1, not word):
            yield "", (a, end, word, int(not word))
        elif not chars and not boundary:
            yield "", (a, end, word, following)
    for chars, _, end in first.edges[a]:
        for others, _, other in second.edges[b]:
            for is_word, kind in ((True, WORD), (False, ALL & ~WORD)):
                both = chars & others & kind
                if both and following in (-1, is_word):
                    yield chr((both & -both).bit_length() - 1), (end, other, is_word, -1)
