"""`Block`: a context manager that may be left in another thread, task or context than it was entered in.

A generator's body runs wherever it is resumed. Each `next()` of a synchronous streaming body or `yield` dependency runs
in another copy of the context; the last one may run in the garbage collector. OpenTelemetry's context tokens do not
work there.
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


class ContextScope:
    """Makes an OpenTelemetry context current until `leave`, which may be called anywhere.

    If the context is no longer current, `leave` restores nothing. If a scope that was entered later is still open, as
    with alternating generators, that one will restore the context from before this one.

    Args:
        context: The context to make current.

    Attributes:
        inside: `context` with this scope stored in it.
        before: The context that was current before.
    """

    __slots__ = ("before", "inside")

    def __init__(self, context: Context) -> None:
        self.before = contexts.get_current()
        self.inside = contexts.set_value(_SCOPE, self, context)
        contexts.attach(self.inside)

    def leave(self) -> None:
        """Restore the context from before, if this scope is current."""
        if contexts.get_current() is self.inside:
            contexts.attach(self.before)
        else:
            self._leave_beneath_others()
        self.before = self.inside = _NOWHERE  # both may refer to this scope

    def _leave_beneath_others(self) -> None:
        later: ContextScope | None = None
        for scope in open_scopes():
            if scope is self:
                if later is None:
                    contexts.attach(self.before)
                else:
                    later.before = self.before
                break
            later = scope

    @property
    def outer(self) -> "ContextScope | None":
        """The scope in which this one was entered; None if there is none."""
        return _scope_of(self.before)


def open_scopes() -> Iterator[ContextScope]:
    """The scopes in the current context, innermost first."""
    scope = _scope_of(contexts.get_current())
    while scope is not None:
        yield scope
        scope = scope.outer


def _scope_of(context: Context) -> ContextScope | None:
    return cast("ContextScope | None", context.get(_SCOPE))


class Entry(ABC):
    """One entry into a block, a context manager itself; it may be left once.

    Attributes:
        scope: The scope that is current inside; None: the context from before is.
    """

    __slots__ = ("scope",)

    scope: ContextScope | None

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(error)
        if self.scope is not None:
            self.scope.leave()

    @abstractmethod
    def end(self, error: BaseException | None) -> None:
        """The block is left, by `error` or normally (None); never raises."""


B = TypeVar("B", bound=Entry)


class Block(ABC, Generic[T, B]):
    """A context manager and decorator that may be entered any number of times at once.

    The entry that a `with` statement leaves is found by the statement's frame, which is the same at both ends. If other
    functions enter and leave, as `ExitStack` does, it is the innermost entry in the current context, else the latest.
    """

    def __init__(self) -> None:
        self._begun: dict[FrameType | None, list[B]] = {}

    @abstractmethod
    def _begin(self) -> tuple[T, B]:
        """Enter; returns the value of the `with` statement, and the entry that ends later."""

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
            begun.__exit__(kind, error, trace)

    def __call__(self, function: F) -> F:
        """Decorate a function, a coroutine function, a method of either kind, or a callable object.

        Raises:
            TypeError: `function` is a generator function, whose duration its caller decides (use `with` inside it), or
                a class or property (decorate their functions).
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
                with self._begin()[1]:
                    return await function(*args, **kwargs)

            return cast("F", in_block_soon)

        @wraps(function)
        def in_block(*args: Any, **kwargs: Any) -> Any:
            with self._begin()[1]:
                return function(*args, **kwargs)

        return cast("F", in_block)

    def _taken(self, frame: FrameType | None) -> B | None:
        """Remove and return the entry that is left now; None if there is none."""
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
