"""What a child inherits when its parent is forked: no lock that is held, and nothing that never ends."""

import ast
import gc
import json
import os
import subprocess
import sys
import threading
import weakref

import pytest

from otel_monitoring.forks import renewed
from tests.forked import LOCKS, called, renewed_places
from tests.source import nodes, trees

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")]


class Holder:
    def __init__(self) -> None:
        self.lock = renewed(self, "lock", threading.Lock)
        self.known = renewed(self, "known", dict[str, int])


def loose_locks(tree: ast.Module) -> list[str]:
    """Locks that are made by neither `renewed` nor a function for itself: no child goes on in that function."""
    functions = nodes(tree, ast.FunctionDef, ast.AsyncFunctionDef)
    assigned = [node for function in functions for node in ast.walk(function) if isinstance(node, ast.Assign)]
    harmless: set[ast.AST] = {
        node.value for node in assigned if all(isinstance(target, ast.Name) for target in node.targets)
    }
    for node in nodes(tree, ast.Call):
        if called(node) == "renewed":
            harmless.update(ast.walk(node))
    imports = nodes(tree, ast.ImportFrom)
    # OpenTelemetry has an `Event` as well.
    others = {one.name for node in imports if node.module not in ("threading", "multiprocessing") for one in node.names}
    made = [node for node in nodes(tree, ast.Call) if called(node) in LOCKS - others and node not in harmless]
    return [text for text in map(ast.unparse, made) if not text.startswith("asyncio.")]


def test_every_lock_of_the_package_is_renewed() -> None:
    """An `Event` of a thread of ours is made for that thread, which no child has."""
    loose = {(module, text) for module, tree in trees().items() for text in loose_locks(tree)}
    threads = ("otel_monitoring.runtime.background", "otel_monitoring.runtime.blocking_thread")
    assert loose == {(module, "threading.Event()") for module in threads}
    assert len(renewed_places()) > 15


@pytest.mark.long
@pytest.mark.parametrize("how", ["os.fork", "multiprocessing"])
def test_a_child_lives_whatever_was_held_at_the_fork(how: str) -> None:
    """Every lock of the package is held by another thread while a service that was started is forked."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.forked", how], capture_output=True, text=True, timeout=300, check=True
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["stuck"] == []
    assert told["held"] >= len([place for place in renewed_places() if "lock" in place.attribute])
    assert told["lives"]["calls"] == ["/forked"]


def test_a_childs_meter_provider_can_make_a_thread_pool() -> None:
    """The lock of thread pools is renewed by a hook, which must stand before the one of the provider."""
    script = "import sys, otel_monitoring.metrics.reader; print('concurrent.futures.thread' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout == "True\n"


def test_what_is_renewed_is_not_kept_alive() -> None:
    holder = Holder()
    known = weakref.ref(holder)
    del holder
    gc.collect()
    assert known() is None


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_gets_its_own_and_the_parent_keeps_what_it_has() -> None:
    holder = Holder()
    holder.known["parent"] = 1
    lock = holder.lock
    with lock:
        pid = os.fork()
        if pid == 0:
            os._exit(holder.lock.acquire(blocking=False) * 2 + (holder.known == {}))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    assert holder.lock is lock
    assert holder.known == {"parent": 1}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_waits_for_whoever_may_hold_locks_of_others() -> None:
    """A collection holds locks of the SDK, which the SDK does not renew."""

    class Collector:
        def __init__(self) -> None:
            self.lock = renewed(self, "lock", threading.Lock, wait=True)
            self.inside = False

    collector, begun, go_on = Collector(), threading.Event(), threading.Event()

    def collect() -> None:
        with collector.lock:
            collector.inside = True
            begun.set()
            go_on.wait()
            collector.inside = False

    thread = threading.Thread(target=collect)
    thread.start()
    begun.wait()
    threading.Timer(0.1, go_on.set).start()
    pid = os.fork()
    if pid == 0:
        os._exit(collector.inside)
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "the child is of a moment when nobody collected"
    assert collector.lock.acquire(blocking=False)
