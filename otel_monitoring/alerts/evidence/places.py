"""Places in code: the innermost one of a stack that is the application's own."""

import re
from collections.abc import Iterable

_FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<name>.+)$', re.MULTILINE)
_POSITION = re.compile(r"^(?P<file>.+):(?P<line>\d+) in (?P<name>.+)$")
_OF_LIBRARIES = re.compile(r"[/\\](site-packages|dist-packages|lib[/\\]python3[^/\\]*)[/\\]|^<")


def place_in(stack: str) -> str:
    """The innermost place in a traceback that is not a library's, as `api/orders.py:33 in create`; empty: none."""
    return _innermost(_FRAME.finditer(stack))


def place_in_positions(stack: Iterable[str]) -> str:
    """The same of positions as `/srv/api/orders.py:33 in create`, innermost last."""
    return _innermost(found for position in stack if (found := _POSITION.match(position)) is not None)


def _innermost(frames: Iterable["re.Match[str]"]) -> str:
    found = list(frames)
    own = [frame for frame in found if not _OF_LIBRARIES.search(frame["file"])]
    for frame in (own or found)[-1:]:
        file = frame["file"].replace("\\", "/").split("/")
        return f"{'/'.join(file[-2:])}:{frame['line']} in {frame['name']}"
    return ""
