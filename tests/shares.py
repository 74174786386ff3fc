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
    last would keep one core busy alone. First come the tests marked `long`, then those marked `integration`. The tests
    of a file stay together: what they set up is set up by one worker, and those that load the machine most, of the
    same file, never run beside one another.
    """
    long = [item for item in items if item.get_closest_marker("long")]
    servers = [item for item in items if item.get_closest_marker("integration") and not item.get_closest_marker("long")]
    begun = {*long, *servers}
    rest = [item for item in items if item not in begun]
    hands: list[list[pytest.Item]] = [[] for _ in range(workers)]
    for place, group in enumerate(_files(long)):
        hands[place % workers].extend(group)
    for group in _files(servers):
        min(hands, key=len).extend(group)
    for place, hand in enumerate(hands):
        missing = max(0, (len(items) + place) // workers - len(hand))
        hand.extend(rest[:missing])
        del rest[:missing]
    return [item for hand in hands for item in hand] + rest


def _files(items: Sequence[pytest.Item]) -> list[list[pytest.Item]]:
    return [list(found) for _, found in groupby(items, lambda item: item.path)]


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
