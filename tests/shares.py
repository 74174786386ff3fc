"""How the workers of a run of the tests share what there is to do, and what is made once for all of them."""

import fcntl
import os
import shutil
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

import pytest


def dealt(items: Sequence[pytest.Item], workers: int) -> list[pytest.Item]:
    """The tests in an order whose `workers` equal parts begin with their share of the long ones.

    xdist gives each worker such a part, and later takes from the end of one for who is done: a long test that came
    last would keep one core busy alone. First come the tests marked `long`, then the files with tests marked
    `integration`, whole: what a file sets up is set up by one worker.
    """
    long = [[item] for item in items if item.get_closest_marker("long")]
    others = [item for item in items if not item.get_closest_marker("long")]
    files = [list(found) for _, found in groupby(others, lambda item: item.path)]
    servers = [found for found in files if found[0].get_closest_marker("integration")]
    rest = [item for found in files if found not in servers for item in found]
    hands: list[list[pytest.Item]] = [[] for _ in range(workers)]
    for place, group in enumerate(long):
        hands[place % workers].extend(group)
    for group in servers:
        min(hands, key=len).extend(group)
    sizes = [(len(items) + place) // workers for place in range(workers)]
    for hand, size in zip(hands, sizes, strict=True):
        missing = max(0, size - len(hand))
        hand.extend(rest[:missing])
        del rest[:missing]
    return [item for hand in hands for item in hand] + rest


def made_once(root: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name` of this run of the tests, which the first worker that needs it makes for all of them.

    Args:
        root: Where the temporary folders of this run are.
        name: The folder's name.
        make: Fills it. Where that raises, the next worker tries again.
    """
    run = root.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        run = run.parent
    folder, made = run / name, run / f"{name}.made"
    with (run / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            made.touch()
    return folder
