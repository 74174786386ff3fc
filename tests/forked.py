"""A process that forks while its own threads hold every lock of the package; run as `python -m tests.forked HOW`."""

import ast
import asyncio
import gc
import importlib
import json
import multiprocessing
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.source import nodes, trees
from tests.waiting import eventually_answered

LOCKS = {"Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Event", "Barrier"}
PATIENCE = 40.0
"""Seconds until a test gives up."""
DEADLOCKED = 5.0
"""Seconds after which whoever waits for a lock is taken to wait for ever."""
ATTEMPTS = 5


@dataclass(frozen=True)
class Place:
    """Where the package has an attribute renewed: a module, the class if there is one, and the attribute's name."""

    module: str
    owner: str | None
    attribute: str

    def owners(self, living: Sequence[object]) -> list[object]:
        """The module, the class, or the class's instances among the `living` objects."""
        module = importlib.import_module(self.module)
        if self.owner is None:
            return [module]
        kind = getattr(module, self.owner)
        instances = [one for one in living if issubclass(type(one), kind)]
        return [one for one in (kind, *instances) if self.attribute in getattr(one, "__dict__", ())]


def living() -> list[object]:
    """All objects of classes of the package."""
    return [one for one in gc.get_objects() if str(type(one).__module__).startswith("otel_monitoring.")]


def called(node: ast.AST) -> str | None:
    """The last part of the name of what is called."""
    if not isinstance(node, ast.Call):
        return None
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", None)


@cache
def renewed_places() -> list[Place]:
    """Every call of `renewed`, by what it is for."""
    found = []
    for module, tree in trees().items():
        for kind in nodes(tree, ast.ClassDef):
            for call in [node for node in ast.walk(kind) if called(node) == "renewed"]:
                assert isinstance(call, ast.Call)
                found.append(Place(module, kind.name, ast.literal_eval(call.args[1])))
        for statement in tree.body:
            if isinstance(statement, ast.Assign) and called(statement.value) == "renewed":
                assert isinstance(statement.value, ast.Call)
                owner, attribute = statement.value.args[:2]
                named = owner.id if isinstance(owner, ast.Name) else None
                found.append(Place(module, named, ast.literal_eval(attribute)))
    return found


def held() -> list[tuple[object, str]]:
    """Have other threads hold every lock of the package that is there, for good; answers owner and attribute."""
    first: list[tuple[object, str]] = []
    for _ in range(ATTEMPTS):
        let_go = threading.Event()
        objects = living()
        found = [
            (owner, place.attribute)
            for place in renewed_places()
            for owner in place.owners(objects)
            if hasattr(getattr(owner, place.attribute), "acquire")
        ]
        taken = [*first, *(one for one in found if one not in first)]
        failed = next((one for one in taken if not _hold(getattr(*one), let_go)), None)
        if failed is None:
            return taken
        # A thread of the service has this lock and waits for another that is held here: it must have that one first.
        first = [failed, *(one for one in first if one != failed)]
        let_go.set()
    raise AssertionError("the service never lets go of all its locks")


def _hold(lock: Any, let_go: threading.Event) -> bool:
    """Whether a thread of its own has the lock now, until it is to let it go."""
    holds = threading.Event()

    def hold() -> None:
        times = 0
        while lock.acquire(timeout=1 if times else DEADLOCKED):  # a semaphore: until nothing is left of it
            times += 1
            holds.set()
            if not hasattr(lock, "_value"):
                break
        let_go.wait()
        for _ in range(times):
            lock.release()

    threading.Thread(target=hold, daemon=True).start()
    return holds.wait(DEADLOCKED)


def _service(folder: Path) -> Any:
    """A service with every part that has a lock, measured and exporting to nobody."""
    from fastapi import FastAPI
    from opentelemetry.metrics import Observation
    from pymongo import MongoClient

    from otel_monitoring import AlertManager, MonitoringService
    from otel_monitoring.testing import MemoryChannel
    from otel_monitoring.zero_code.mongo_clients import BuiltClients

    clients = BuiltClients()
    clients.follow()
    client: MongoClient[Any] = MongoClient("mongodb://127.0.0.1:1", serverSelectionTimeoutMS=50)
    app = FastAPI()
    service = MonitoringService(
        client["shop"],
        alert_manager=AlertManager(channels=[MemoryChannel()]),
        otlp_endpoint="http://127.0.0.1:1",
        store="mongodb",
        state_dir=folder,
        shutdown_timeout=1,
        check_timeout=1,
    ).instrument(app)
    service.meter.create_observable_gauge("seen", [lambda _: [Observation(1)]])
    service._parts.database._instrumentation = clients  # type: ignore[attr-defined] # kept alive with the service
    return service


async def _lives(service: Any) -> dict[str, Any]:
    """Start in this process if it is not started, and use what has locks."""
    import httpx

    from otel_monitoring.alerts import AlertSeverity, AlertType
    from otel_monitoring.guard import fail_open

    await service.start()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(service._app), base_url="http://test") as client:
        await client.get("/api/health/live")
    fail_open.note("a test", ValueError("on purpose"))
    await service.performance_metrics.record_request(endpoint="/forked", duration=0.1, status_code=200)
    sent = await service.alert_manager.send_alert(AlertType.CUSTOM, "forked", AlertSeverity.INFO)

    # Its store is away: then what was measured is published, and shown, only every few seconds.
    async def calls() -> list[str]:
        return list((await service.get_detailed_diagnostics())["endpoints"])

    return {"calls": await eventually_answered(calls, "a call is shown"), "alert": sent}


def _child(service: Any, taken: list[tuple[object, str]], write: Callable[[str], None]) -> None:
    stuck = [
        f"{getattr(owner, '__name__', type(owner).__name__)}.{attribute}"
        for owner, attribute in taken
        if not getattr(owner, attribute).acquire(timeout=1)
    ]
    for owner, attribute in taken:
        if not stuck:
            getattr(owner, attribute).release()
    lives = asyncio.run(asyncio.wait_for(_lives(service), PATIENCE)) if not stuck else None
    write(json.dumps({"held": len(taken), "stuck": stuck, "lives": lives}))


def main(how: str) -> None:
    warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
    os.environ["OTEL_EXPORTER_OTLP_TIMEOUT"] = "1"  # an exporter keeps its lock for all attempts to send
    with tempfile.TemporaryDirectory() as folder:
        service = _service(Path(folder))
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()
        asyncio.run_coroutine_threadsafe(_lives(service), loop).result(PATIENCE)
        objects = living()
        missing = [place for place in renewed_places() if not place.owners(objects)]
        assert not missing, f"no such object here to hold the lock of: {missing}"
        taken = held()
        if how == "multiprocessing":
            context = multiprocessing.get_context("fork")
            queue = context.SimpleQueue()
            child = context.Process(target=_child, args=(service, taken, queue.put))
            child.start()
            child.join(PATIENCE)
            print(queue.get() if child.exitcode == 0 else f"ended with {child.exitcode}")  # noqa: T201
            os._exit(0 if child.exitcode == 0 else 1)
        pid = os.fork()
        if pid == 0:
            try:
                _child(service, taken, lambda text: print(text, flush=True))  # noqa: T201
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
