"""`LazyPattern`: a regular expression that is compiled at its first use, or by `compile_all`."""

import re
from collections.abc import Callable
from functools import cached_property

_patterns: "list[LazyPattern]" = []


class LazyPattern:
    """Takes the place of `re.compile(pattern, flags)`, so that short-lived processes save the 50 ms of all patterns.

    Args:
        pattern: The regular expression.
        flags: As of `re.compile`.
    """

    def __init__(self, pattern: str, flags: int = 0) -> None:
        self._pattern, self._flags = pattern, flags
        _patterns.append(self)

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        """The compiled pattern."""
        return re.compile(self._pattern, self._flags)

    def sub(self, replacement: str | Callable[[re.Match[str]], str], text: str) -> str:
        """As `re.Pattern.sub`."""
        return self.compiled.sub(replacement, text)

    def search(self, text: str, begin: int = 0) -> re.Match[str] | None:
        """As `re.Pattern.search`."""
        return self.compiled.search(text, begin)


def compile_all() -> None:
    """Compile every pattern, so that no request waits for it."""
    for pattern in _patterns:
        _ = pattern.compiled
