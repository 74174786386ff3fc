"""Functions of `time` replaced for one module: event loops and other threads of the process keep theirs."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest


def set_time(monkeypatch: pytest.MonkeyPatch, module: str, **functions: Callable[..., Any]) -> None:
    """Replace what the module, named in full, finds in its `time`.

    A clock of the process that stands still stops its event loops, and threads that no longer sleep spin.
    """
    monkeypatch.setattr(f"{module}.time", SimpleNamespace(**{**vars(time), **functions}))
