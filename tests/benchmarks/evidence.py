"""What an alert names first when something real goes wrong in the example: ten faults under traffic."""

import contextlib
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
from pymongo import MongoClient

from examples.earlybird import processes
from tests.benchmarks.calibration import slowness
from tests.benchmarks.report import Report, say

_TOKEN = "benchmark-token"
_HEALTHY_SECONDS = 32
_QUIET_SECONDS = 60
_PATIENCE = 120
_STRONGER_AFTER = 20
_STRONGEST = 8.0
_LEAK = 2000 * 2**20
_RATE = 12.0
_DOCUMENTS = 20_000
_BATCH = 200
_SLOW_MS = 500
_BEFORE_RELEASE = 20
_APP = "tests.benchmarks.faulty_app:app"
_FASTER = {
    "OTEL_MONITORING_SAMPLE_INTERVAL": "1",
    "OTEL_MONITORING_CHECK_INTERVAL": "2",
    "OTEL_MONITORING_WINDOW": "15",
    "EARLYBIRD_OUTAGES": "off",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        name: What it is, in `faulty_app`.
        route: The requests in which it happens; empty: all.
        alert: The type of the alert that is looked at.
        expected: Says whether a cause of this kind, with these names, is the right one.
        right: The right cause in words.
        env: Variables of the service.
        documents: Documents that the collection of the fault has from the beginning.
        what: What `faulty_app` calls it; empty: the same.
        workers: Processes of the service.
    """

    name: str
    route: str
    alert: str
    expected: Callable[["Trial", str, list[str]], bool]
    right: str
    env: Mapping[str, str] = field(default_factory=dict)
    documents: int = 0
    what: str = ""
    workers: int = 2

    @property
    def kind(self) -> str:
        """What `faulty_app` calls it."""
        return self.what or self.name

    @property
    def collection(self) -> str:
        """The collection that it is in."""
        return self.env.get("FAULT_COLLECTION", "deliveries")


def _is(kind: str, name: str = "") -> Callable[["Trial", str, list[str]], bool]:
    return lambda _, found, names: found == kind and (not name or names[:1] == [name])


def _is_bad_worker(trial: "Trial", kind: str, names: list[str]) -> bool:
    bad = [path.read_text() for path in trial.directory.glob("fault.worker*")]
    return kind == "worker" and sorted(name.split()[0] for name in names) == sorted(bad)


def _is_provider(trial: "Trial", kind: str, names: list[str]) -> bool:
    return kind == "host" and names == [f"127.0.0.1:{trial.provider_port}"]


FAULTS = (
    Fault(
        "slow query",
        "GET /api/deliveries/",
        "api_timeout",
        _is("collection", "deliveries"),
        "collection deliveries",
        documents=_DOCUMENTS,
    ),
    Fault(
        "one bad worker",
        "",
        "high_error_rate",
        _is_bad_worker,
        "the worker",
        {"OTEL_MONITORING_THRESHOLD_ERROR_RATE_PERCENT": "10"},
    ),
    Fault(
        "one route failing",
        "PATCH /api/orders/{order_id}/status",
        "high_error_rate",
        _is("route", "PATCH /api/orders/{order_id}/status"),
        "the route",
        {"OTEL_MONITORING_THRESHOLD_ERROR_RATE_PERCENT": "2"},
    ),
    Fault("bad release", "GET /api/orders/", "high_error_rate", _is("release", "1.1.0"), "release 1.1.0"),
    Fault(
        "pool exhausted",
        "GET /api/deliveries/",
        "database_pool_exhausted",
        _is("pool"),
        "the pool",
        {"FAULT_POOL": "?maxPoolSize=2", "OTEL_MONITORING_CHECK_TIMEOUT": "1"},
        documents=_DOCUMENTS,
    ),
    Fault("CPU hog", "GET /api/orders/", "high_cpu", _is("route", "/api/orders/"), "route /api/orders/"),
    Fault(
        "blocked loop",
        "GET /api/billing/report",
        "event_loop_blocked",
        _is("route", "/api/billing/report"),
        "route /api/billing/report",
    ),
    Fault("memory growth", "GET /api/orders/", "high_memory", _is("worker"), "the workers"),
    Fault("provider down", "", "high_error_rate", _is_provider, "the provider's host", {"FAULT_PROVIDER": "here"}),
    Fault(
        "collection grown",
        "GET /api/subscriptions/",
        "api_timeout",
        _is("collection", "subscriptions_v2"),
        "collection subscriptions_v2",
        {"FAULT_COLLECTION": "subscriptions_v2"},
    ),
)


OTHERS = (
    Fault(
        "slow query elsewhere",
        "GET /api/orders/{order_id}",
        "api_timeout",
        _is("collection", "archive"),
        "collection archive",
        {"FAULT_COLLECTION": "archive"},
        documents=_DOCUMENTS,
        what="slow query",
    ),
    Fault(
        "two bad workers of three",
        "",
        "high_error_rate",
        _is_bad_worker,
        "both workers",
        {"FAULT_WORKERS": "2", "OTEL_MONITORING_THRESHOLD_ERROR_RATE_PERCENT": "20"},
        what="one bad worker",
        workers=3,
    ),
    Fault(
        "another route failing",
        "POST /api/orders/",
        "high_error_rate",
        _is("route", "POST /api/orders/"),
        "the route",
        what="missing key",
    ),
    Fault("all routes failing", "", "high_error_rate", _is("exception", "KeyError"), "KeyError", what="missing key"),
    Fault(
        "provider slow",
        "POST /api/orders/",
        "api_timeout",
        _is_provider,
        "the provider's host",
        # Calls are measured where there is a receiver of telemetry, even if it is away.
        {"FAULT_PROVIDER": "here", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
    ),
    Fault(
        "release after the errors",
        "GET /api/orders/",
        "high_error_rate",
        _is("route", "GET /api/orders/"),
        "the route",
        {"OTEL_MONITORING_WINDOW": "60", "OTEL_MONITORING_THRESHOLD_ERROR_RATE_PERCENT": "12"},
        what="one route failing",
    ),
    Fault(
        "slow release",
        "GET /api/deliveries/",
        "api_timeout",
        _is("release", "1.1.0"),
        "release 1.1.0",
        documents=_DOCUMENTS,
        what="slow query",
    ),
)
"""Others of the same kinds; they run by their names alone."""


def run(report: Report, names: tuple[str, ...] = ()) -> None:
    """Print which cause each alert names first.

    Args:
        report: Where it goes.
        names: The faults to try; empty: the ten.
    """
    report.section(
        "Evidence",
        "Ten faults in the example, with two workers under traffic: what the alert names first. Times are compressed: "
        "a window of 15 s, a sample each second. A fault grows until there is an alert.",
    )
    rows, right, tried = [], 0, 0
    for fault in [one for one in (*FAULTS, *OTHERS) if one.name in names] or FAULTS:
        tried += 1
        found = trial(fault)
        culprits = found.evidence.get("culprits", [])
        first: dict[str, Any] = culprits[0] if culprits else {"text": "nothing stands out"}
        is_right = bool(culprits) and fault.expected(found, first["kind"], first["names"])
        right += is_right
        verdict, others = "right" if is_right else "WRONG", "; ".join(one["text"] for one in culprits[1:])
        say(f"  {fault.name}: {verdict}: {first['text']}  [{others}]  {found.event.get('message')}")
        rows.append((fault.name, fault.right, first["text"], "yes" if is_right else "no"))
    report.table(("fault", "the cause", "what the alert names first", "right"), rows)
    report.text(f"{right} of {tried} named first.")
    report.figure("evidence.missed", float(tried - right))


@dataclass
class Trial:
    """What happened.

    Attributes:
        directory: Where the fault leaves its marks.
        provider_port: Where the provider listened.
        event: The alert, as the history has it; empty: there was none.
    """

    directory: Path
    provider_port: int
    event: Mapping[str, Any] = field(default_factory=dict)

    @property
    def evidence(self) -> Mapping[str, Any]:
        """What the alert says."""
        found: Mapping[str, Any] = self.event.get("evidence", {})
        return found


def trial(fault: Fault) -> Trial:
    """Run the example, let it be well, switch the fault on, and wait for the alert."""
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="evidence-"))
        port, provider_port = _free_port(), _free_port()
        found = Trial(directory, provider_port)
        server = stack.enter_context(processes.running(processes.embedded_mongodb(directory)))
        uri = processes.mongodb_uri(server)
        if fault.documents:
            _fill(uri, fault.collection, fault.documents)
        provider = None
        if "FAULT_PROVIDER" in fault.env:
            provider = stack.enter_context(processes.running(_provider(directory, provider_port)))
        environment = _environment(fault, directory, uri, f"http://127.0.0.1:{provider_port}" if provider else "")
        api = ExitStack()
        stack.callback(api.close)
        api.enter_context(_running(fault, directory, port, environment))
        stack.enter_context(_traffic(port))
        client = stack.enter_context(_client(port))
        time.sleep(_HEALTHY_SECONDS)
        _wait_until_quiet(client, fault)
        began = time.time()
        if "release" in fault.name:
            if fault.name == "release after the errors":
                _grow(fault, directory, uri, 1.0)
                time.sleep(_BEFORE_RELEASE)
            api.close()
            newer = {**environment, "OTEL_MONITORING_SERVICE_VERSION": "1.1.0"}
            api.enter_context(_running(fault, directory, port, newer))
        _grow(fault, directory, uri, 1.0)
        if fault.name == "provider down" and provider is not None:
            provider.stop()
        found.event = _alert(client, fault, began, lambda strength: _grow(fault, directory, uri, strength))
        return found


def _environment(fault: Fault, directory: Path, uri: str, provider: str) -> dict[str, str | None]:
    memory = psutil.virtual_memory()
    full = 100 * (memory.total - memory.available + _LEAK) / memory.total
    return {
        **_own_environment(),
        **_FASTER,
        "OTEL_MONITORING_THRESHOLD_API_RESPONSE_TIME_MS": f"{_SLOW_MS * max(1.0, slowness()):.0f}",
        "OTEL_MONITORING_THRESHOLD_MEMORY_PERCENT": f"{full:.1f}" if fault.kind == "memory growth" else None,
        "OTEL_MONITORING_STATE_DIR": str(directory / "state"),
        "OTEL_MONITORING_ADMIN_TOKEN": _TOKEN,
        "OTEL_MONITORING_SERVICE_VERSION": "1.0.0",
        "EARLYBIRD_STAFF_TOKEN": _TOKEN,
        "FAULT": fault.kind,
        "FAULT_ROUTE": fault.route,
        "FAULT_SWITCH": str(directory / "fault"),
        **fault.env,
        "MONGODB_URI": uri + "/" + fault.env.get("FAULT_POOL", ""),
        "FAULT_PROVIDER": provider,
    }


def _grow(fault: Fault, directory: Path, uri: str, strength: float) -> None:
    """Give a fault this strength; 1 is the first, with which it begins."""
    if fault.kind == "collection grown":
        _fill(uri, fault.collection, round(_DOCUMENTS * (strength if strength == 1 else strength / 2)))
    # The slowness of the provider is in seconds.
    for name in ("fault", *(["slowness"] if fault.kind == "provider slow" else [])):
        fresh = directory / f"{name}.new"
        fresh.write_text(str(strength))
        fresh.rename(directory / name)


def _own_environment() -> dict[str, None]:
    """Removes what the process of the benchmarks has for itself, as the memory as the store of each process."""
    return {name: None for name in os.environ if name.startswith(("OTEL_", "ALERT_"))}


def _client(port: int) -> httpx.Client:
    headers = {"Authorization": f"Bearer {_TOKEN}"}
    # A connection for each request, so that a process that ends takes none with it.
    limits = httpx.Limits(max_keepalive_connections=0)
    url = f"http://127.0.0.1:{port}/api/alerts"
    return httpx.Client(base_url=url, headers=headers, timeout=20, limits=limits, trust_env=False)


def _concerns(fault: Fault, alert: Mapping[str, Any]) -> bool:
    """Whether an alert is of the type that is looked at, and about the faulty route if it is about one."""
    endpoint = alert["labels"].get("endpoint")
    return alert["type"] == fault.alert and (endpoint is None or endpoint == fault.route.partition(" ")[2])


def _wait_until_quiet(client: httpx.Client, fault: Fault) -> None:
    """Wait until no such alert fires: one that fires already does not begin with the fault."""
    until = time.monotonic() + _QUIET_SECONDS
    while time.monotonic() < until:
        with contextlib.suppress(httpx.HTTPError, ValueError):
            if not any(_concerns(fault, one) for one in client.get("/firing").json()):
                return
        time.sleep(1)
    say(f"  {fault.name}: the alert fired before the fault")


def _alert(client: httpx.Client, fault: Fault, since: float, grow: Callable[[float], None]) -> Mapping[str, Any]:
    """The first alert about the fault since a time; empty: there was none. The fault grows until then."""
    strength, next_at = 1.0, time.time() + _STRONGER_AFTER
    until = time.time() + _PATIENCE
    while time.time() < until:
        with contextlib.suppress(httpx.HTTPError, ValueError):
            for event in reversed(client.get("/history?limit=100").json()):
                is_new = datetime.fromisoformat(event["timestamp"]).timestamp() >= since
                if is_new and event["status"] == "firing" and _concerns(fault, event):
                    return dict(event)
        if time.time() >= next_at and strength < _STRONGEST:
            strength, next_at = 2 * strength, time.time() + _STRONGER_AFTER
            grow(strength)
        time.sleep(0.5)
    return {}


def _running(fault: Fault, directory: Path, port: int, environment: Mapping[str, str | None]) -> Any:
    @contextmanager
    def running() -> Iterator[None]:
        args = [_APP, "--host", "127.0.0.1", "--port", str(port), "--no-access-log"]
        args += ["--workers", str(fault.workers), "--timeout-graceful-shutdown", "3"]
        log = directory / f"api-{uuid4().hex[:6]}.log"
        with processes.running(processes.Part("The API", "uvicorn:main", args, log, environment)) as part:
            processes.api_ready(part, f"http://127.0.0.1:{port}/api/health/ready")
            yield

    return running()


def _provider(directory: Path, port: int) -> processes.Part:
    env = {"PROVIDER_SLOWNESS": str(directory / "slowness")}
    args = ["tests.benchmarks.provider_app:app", "--host", "127.0.0.1", "--port", str(port), "--no-access-log"]
    return processes.Part("The provider", "uvicorn:main", args, directory / "provider.log", env)


@contextmanager
def _traffic(port: int) -> Iterator[None]:
    """Visitors, in a process of their own."""
    args = [f"http://127.0.0.1:{port}", "--rate", str(_RATE), "--seconds", str(3 * _PATIENCE)]
    env = {**os.environ, "EARLYBIRD_STAFF_TOKEN": _TOKEN}
    log = Path(tempfile.mkstemp(prefix="traffic-")[1])
    with processes.running(processes.Part("The traffic", "examples.earlybird.traffic:main", args, log, env)):
        yield


def _fill(uri: str, collection: str, number: int) -> None:
    """Insert documents, in batches so small that nobody waits for them."""
    client: MongoClient[dict[str, Any]] = MongoClient(uri)
    try:
        text = "a note that nobody looks for, of a usual length and with usual words; " * 3
        for begin in range(0, number, _BATCH):
            rows = [
                {"_id": uuid4().hex, "note": f"{begin + place} {text}", "deliver_on": "2020-01-01", "status": "old"}
                for place in range(_BATCH)
            ]
            client["earlybird"][collection].insert_many(rows)
            time.sleep(0.05)
    finally:
        client.close()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
