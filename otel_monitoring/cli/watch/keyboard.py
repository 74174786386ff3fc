"""`Keyboard`: reads single keys from the terminal, without Enter."""

import os
import select
import sys
import time
from types import TracebackType
from typing import Any, Final

if sys.platform != "win32":
    import termios
    import tty

_ARROWS: Final = {b"\x1b[A": "up", b"\x1bOA": "up", b"\x1b[B": "down", b"\x1bOB": "down"}


class Keyboard:
    """Context manager in which keys arrive one by one and are not shown. On Windows there are no keys."""

    def __init__(self) -> None:
        self.usable = sys.platform != "win32" and sys.stdin.isatty()
        self._before: list[Any] | None = None

    def __enter__(self) -> "Keyboard":
        if self.usable:
            self._before = termios.tcgetattr(sys.stdin.fileno())
            tty.setcbreak(sys.stdin.fileno())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._before is not None:
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._before)

    def wait(self, seconds: float) -> str | None:
        """The next key: a character, `up` or `down`; None after `seconds` without one. A lost terminal means `q`."""
        if not self.usable:
            time.sleep(seconds)
            return None
        ready, _, _ = select.select([sys.stdin], [], [], seconds)
        if not ready:
            return None
        pressed = os.read(sys.stdin.fileno(), 16)
        if not pressed:
            self.usable = False
            return "q"
        return _ARROWS.get(pressed, pressed[:1].decode("ascii", "replace"))
