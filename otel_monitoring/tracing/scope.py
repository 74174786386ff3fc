"""`Block`: a context manager that finds what it began again, in whichever thread, task or context it is left.

The body of a generator runs wherever it is resumed: each `next()` of a synchronous streaming body or `yield` dependency
in another copy of the context, the last one perhaps in the garbage collector. OpenTelemetry's tokens, and what the
current context holds, are of no use there.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial, wraps
from types import FrameType, TracebackType
from typing import Any, Final, Generic, TypeVar, cast

from opentelemetry import context as contexts
from opentelemetry.context import Context

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_SCOPE: Final = contexts.create_key("otel_monitoring.scope")
_NOWHERE: Final = Context()


class Scope:
    """Makes a context current until it is left, wherever that is.

    Where its context is current no longer, there is nothing to restore. Where a scope that was entered later is still
    open (generators that take turns), that one restores what was current before this one.

    Args:
        context: What is current inside.

    Attributes:
        inside: The same, with the scope in it.
        before: What was current before.
    """

    __slots__ = ("before", "inside")

    def __init__(self, context: Context) -> None:
        self.before = contexts.get_current()
        self.inside = contexts.set_value(_SCOPE, self, context)
        contexts.attach(self.inside)

    def leave(self) -> None:
        """Make current again what was so before, if this scope is."""
        later: Scope | None = None
        for scope in open_scopes():
            if scope is self:
                if later is None:
                    contexts.attach(self.before)
                else:
                    later.before = self.before
                break
            later = scope
        self.before = self.inside = _NOWHERE  # both may hold this scope

    @property
    def outer(self) -> "Scope | None":
        """The scope in which this one was entered."""
        return _scope_of(self.before)


def open_scopes() -> Iterator[Scope]:
    """The scopes that are current here, innermost first."""
    scope = _scope_of(contexts.get_current())
    while scope is not None:
        yield scope
        scope = scope.outer


def _scope_of(context: Context) -> Scope | None:
    return cast("Scope | None", context.get(_SCOPE))


class Begun(ABC):
    """What a block has begun, once.

    Attributes:
        scope: In which it runs.
    """

    scope: Scope

    @abstractmethod
    def end(self, error: BaseException | None) -> None:
        """The block was left, with `error` where that left it; never raises."""


B = TypeVar("B", bound=Begun)


class Block(ABC, Generic[T, B]):
    """A context manager, and decorator, that may be entered any number of times at once.

    What a `with` statement began is known by the statement's frame, which is the same when it is left. Where another
    function does both (`ExitStack`), it is the innermost that is open in the current context, or else the latest.
    """

    def __init__(self) -> None:
        self._begun: dict[FrameType | None, list[B]] = {}

    @abstractmethod
    def _begin(self) -> tuple[T, B]:
        """Begin; answers what the `with` statement gets, and what is ended later."""

    def __enter__(self) -> T:
        frame = inspect.currentframe()
        value, begun = self._begin()
        self._begun.setdefault(frame and frame.f_back, []).append(begun)
        return value

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        frame = inspect.currentframe()
        begun = self._taken(frame and frame.f_back)
        if begun is not None:
            begun.end(error)
            begun.scope.leave()

    def __call__(self, function: F) -> F:
        """Decorate `function`: a function, a coroutine function, a method of either kind, or an object to call.

        Raises:
            TypeError: It is a generator function: its caller decides how long it takes. Use `with` inside of it. Or it
                is a class or a property: decorate their functions.
        """
        if isinstance(function, staticmethod | classmethod):
            return cast("F", type(function)(self(function.__func__)))
        if isinstance(function, type) or not callable(function):
            raise TypeError(f"{self!r} decorates functions, not {function!r}: put it at those inside")
        called = function if inspect.isroutine(function) or isinstance(function, partial) else type(function).__call__
        if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
            raise TypeError(
                f"{self!r} cannot decorate the generator function {getattr(function, '__qualname__', function)}: "
                f"write `with {type(self).__name__}(...)` around the work inside of it"
            )
        if inspect.iscoroutinefunction(called):

            @wraps(function)
            async def in_block_soon(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return await function(*args, **kwargs)

            return cast("F", in_block_soon)

        @wraps(function)
        def in_block(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return cast("F", in_block)

    def _taken(self, frame: FrameType | None) -> B | None:
        """What is left now; it is open no longer."""
        frames = self._begun
        if frame not in frames:
            here = set(open_scopes())
            candidates = [key for key, begun in tuple(frames.items()) if begun and begun[-1].scope in here]
            frame = next(reversed(candidates or tuple(frames)), None)
        begun = frames.get(frame)
        if not begun:
            return None
        taken = begun.pop()
        if not begun:
            frames.pop(frame, None)
        return taken
