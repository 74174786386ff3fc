"""`FirstCall`: what is done before the first call of a method, and so by those processes alone that call it."""

import sys
import threading
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from otel_monitoring.forks import renewed
from otel_monitoring.runtime.suppression import is_suppressed

_lock = renewed(sys.modules[__name__], "_lock", threading.RLock)


class FirstCall:
    """Waits for the first call of any of several methods; calls inside `suppress_instrumentation` do not count.

    Args:
        methods: Classes, and names of methods that they define.
        prepare: Is called once, before the first call, by whoever calls; it may put other methods in the place of
            these, and must not raise.
    """

    def __init__(self, methods: Iterable[tuple[type, str]], prepare: Callable[[], object]) -> None:
        self._prepare = prepare
        self._waiting = True
        self._undone: set[Callable[..., Any]] = set()
        self._undo = [self._wait(owner, name) for owner, name in methods]

    def _wait(self, owner: type, name: str) -> Callable[[], None]:
        original = vars(owner)[name]

        @wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            if is_suppressed():
                return original(*args, **kwargs)
            self._end(self._prepare)
            # Where somebody else has wrapped this, they call it, and it must not call them.
            return (getattr(owner, name) if call in self._undone else original)(*args, **kwargs)

        def undo() -> None:
            if vars(owner)[name] is call:
                setattr(owner, name, original)
                self._undone.add(call)

        setattr(owner, name, call)
        return undo

    def _end(self, then: Callable[[], object]) -> None:
        with _lock:
            if self._waiting:
                self._waiting = False
                for undo in self._undo:
                    undo()
                then()

    def give_up(self) -> None:
        """Wait no longer."""
        self._end(lambda: None)
