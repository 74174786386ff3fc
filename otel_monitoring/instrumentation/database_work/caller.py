"""`caller_line`: the application's line from which a command is sent."""

import asyncio
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from types import FrameType
from typing import Any, Final

_MAX_FRAMES: Final = 200
_MAX_TASKS: Final = 1000

_PATHS: Final = sysconfig.get_paths()
_INSTALLED: Final = tuple({_PATHS[name] + os.sep for name in ("purelib", "platlib")})
_LIBRARY: Final = tuple({_PATHS[name] + os.sep for name in ("stdlib", "platstdlib")})
_PACKAGES: Final = ("site-packages", "dist-packages")
# What calls the application: the first frame below is the application's, also where that is installed.
_SERVERS: Final = frozenset(("anyio", "asyncio", "concurrent", "contextlib", "contextvars", "fastapi", "starlette"))
_THEMSELVES: Final = frozenset(("bson", "gridfs", "motor", "opentelemetry", "otel_monitoring", "pymongo", "threading"))


def caller_line(frame: FrameType | None, waiting: Iterable[Iterable[FrameType]] = ()) -> str:
    """The application's innermost line, as `shop/orders.py:42`; empty: there is none.

    It is the first line outside of the standard library and of installed packages. An application that is itself
    installed is known by the frame that the web framework calls. The path is relative to where the module is imported
    from.

    Args:
        frame: The innermost frame.
        waiting: Further stacks, innermost frame first, where that one has no line of the application: those of tasks
            that wait for it.
    """
    for stack in (_outward(frame), *waiting):
        frames = list(stack)
        found = next((one for one in frames if _is_applications(one)), None) or _installed_application(frames)
        if found is not None:
            return f"{_relative(found)}:{found.f_lineno}"
    return ""


def waiting_stacks(
    entered: "asyncio.Task[Any] | None",
    reached: "asyncio.Task[Any] | None",
    thread: int,
    of: ContextVar[Any],
    value: object,
) -> Iterator[list[FrameType]]:
    """The stacks of the tasks that wait for a command, innermost frame first.

    They are that of the task in which the request is handled and, from Python 3.12 on, those of all tasks in whose
    context `of` has `value`.

    Args:
        entered: The task in which the request began: that of the outermost middleware.
        reached: The task in which it reached the application's routes; middleware may have another one do that.
        thread: The thread of these tasks.
        of: Has `value` in the tasks of the request.
        value: Tells the request.
    """
    task = entered if reached is None or reached.done() else reached
    if task is None:
        return
    if asyncio.current_task(task.get_loop()) is task:  # it is blocked, not suspended: no coroutine tells what it awaits
        yield list(_outward(sys._current_frames().get(thread)))  # noqa: SLF001 - documented
    else:
        yield list(_awaited(task.get_coro()))[::-1]
    if sys.version_info >= (3, 12):
        for other in list(asyncio.all_tasks(task.get_loop()))[:_MAX_TASKS]:
            if other not in (entered, task) and other.get_context().get(of) is value:
                yield list(_awaited(other.get_coro()))[::-1]


def _awaited(coroutine: Any) -> Iterator[FrameType]:
    for _ in range(_MAX_FRAMES):
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is None:
            return
        yield frame
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)


def _outward(frame: FrameType | None) -> Iterator[FrameType]:
    for _ in range(_MAX_FRAMES):
        if frame is None:
            return
        yield frame
        frame = frame.f_back


def _root(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _is_applications(frame: FrameType) -> bool:
    path = frame.f_code.co_filename
    if path.startswith("<") or _root(frame) in _THEMSELVES:
        return False
    if any(f"{os.sep}{folder}{os.sep}" in path for folder in _PACKAGES):
        return False
    return not path.startswith((*_INSTALLED, *_LIBRARY))


def _installed_application(frames: list[FrameType]) -> FrameType | None:
    """The innermost frame of the package that the web framework calls."""
    entered: FrameType | None = None
    for frame in frames:
        if _root(frame) in _SERVERS:
            break
        if _root(frame) not in _THEMSELVES and not frame.f_code.co_filename.startswith("<"):
            entered = frame
    else:
        return None
    if entered is None:
        return None
    return next(frame for frame in frames if _root(frame) == _root(entered))


def _relative(frame: FrameType) -> str:
    """The file's path from the folder that its module is imported from; its name alone where that is not known."""
    path = frame.f_code.co_filename.replace(os.sep, "/")
    name = str(frame.f_globals.get("__name__", ""))
    parts = path.split("/")
    depth = name.count(".") + (2 if parts[-1] == "__init__.py" else 1)
    shown = parts[-depth:]
    if ".".join(shown).removesuffix(".py").removesuffix(".__init__") == name:
        return "/".join(shown)
    return parts[-1]
