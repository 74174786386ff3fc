"""`when_imported`: what is done once the application has imported a module that nobody else should load."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_awaited: dict[str, list[Callable[[ModuleType], None]]] = {}


def when_imported(name: str, call: Callable[[ModuleType], None]) -> None:
    """Call `call` with the module `name`: now if it is imported, else at the end of its import, in the same thread.

    Args:
        name: A module's full name.
        call: Must not raise.
    """
    if sys.modules.get(name) is not None:
        call(import_module(name))  # which waits where another thread is in the midst of its import
        return
    _awaited.setdefault(name, []).append(call)
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds awaited modules where the other finders find them."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the first of the other finders finds; None for a module that nobody waits for."""
        if name not in _awaited:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        finds = (getattr(finder, "find_spec", None) for finder in others)  # finders of old libraries have none
        found = (find(name, path, target) for find in finds if find is not None)
        spec = next((one for one in found if one is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """Loads a module by the loader that was found for it, which it then has itself, and calls those who wait for it."""

    def __init__(self, found: Loader) -> None:
        self._found = found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._found, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Make the module as the loader does."""
        return self._found.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Load the module; if that fails, it stays awaited."""
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self._found
        self._found.exec_module(module)
        for call in _awaited.pop(module.__name__, ()):
            call(module)
