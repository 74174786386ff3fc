"""One service on two hosts with its state in a MongoDB database, under load: all that can fail does.

`python -m tests.integration.hosts 600 FerretDB` does for ten minutes what `test_hosts.py` does in seconds, and says how
it went.
"""

import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from otel_monitoring.alerts.store.fallback import RETRY_SECONDS
from tests import waiting
from tests.integration.load import Load
from tests.integration.network import Link, link
from tests.integration.polls import LATE, Polls
from tests.integration.processes import Service, serving
from tests.integration.receivers import HttpReceiver, Loop, answer, http
from tests.integration.servers import Server, ferretdb, nx27017
from tests.ports import free_port
from tests.waiting import PATIENCE, eventually

WORKERS: Final = 2
DATABASES: Final[dict[str, Callable[[], AbstractContextManager[Server]]]] = {
    "nx-27017": lambda: nx27017("{directory}/shop.db"),
    "FerretDB": ferretdb,
}
MUTED: Final = ("delivery_issue", "security_alert")
"""What each host mutes."""
CLOCKS: Final = {"one": -240.0, "two": 420.0}
"""The hosts, and seconds that their clocks are ahead."""

SOURCE: Final = """
import os, time

ahead, clock, clock_ns = float(os.environ["CLOCK_AHEAD"]), time.time, time.time_ns
time.time = lambda: clock() + ahead  # before anything takes it
time.time_ns = lambda: clock_ns() + int(ahead * 1e9)

import asyncio, logging
from dataclasses import replace
from pathlib import Path
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from opentelemetry.metrics import Observation
from pymongo import AsyncMongoClient
from otel_monitoring import MonitoringService
from otel_monitoring.alerts import Gauge, Rule
from otel_monitoring.alerts.evaluation import lifecycle
from otel_monitoring.alerts.store.fallback.store import FallbackStore

lifecycle.FLAPS = 1000  # that the database goes and comes is told each time here
FallbackStore.__init__.__kwdefaults__["retry"] = float(os.environ["RETRY_SECONDS"])

logging.basicConfig(level=logging.INFO)
app = FastAPI(title="orders", version="1.4.2")
db = AsyncMongoClient(os.environ["MONGODB_URI"], serverSelectionTimeoutMS=500)["shop"]
monitoring = MonitoringService(db, check_interval=1, check_timeout=2).instrument(app)
[down] = [rule for rule in monitoring.alert_manager.rules if rule.name == "database_down"]
monitoring.add_rule(replace(down, keep_firing_for=1))

heat = Path(os.environ["HEAT"])
monitoring.add_rule(Rule("hot", Gauge("heat", group_by="room"), ">", 0, "It is hot in {room}", label="room"))

def heats(_):
    room, value = heat.read_text().split()
    return [Observation(int(value), {"room": room})]

monitoring.meter.create_observable_gauge("heat", [heats])
placed = monitoring.meter.create_counter("orders.placed")

@app.get("/orders/{number}")
@app.post("/orders/{number}")
async def order(number: int):
    await asyncio.sleep(0.001)
    placed.add(1)
    return JSONResponse(os.getpid(), status_code=404 if number % 10 == 4 else 503 if number % 10 == 7 else 200)

@app.get("/raise")
async def raise_alert(message: str, kind: str = "billing_failure"):
    return await monitoring.add_alert(kind, message, "critical")

@app.get("/python")
async def python():
    return {
        "summary": await monitoring.performance_metrics.get_summary(),
        "health": await monitoring.get_health_status(),
        "diagnostics": await monitoring.get_detailed_diagnostics(),
        "alerts": await monitoring.alert_manager.get_alert_summary(),
    }
"""


class Telling(NamedTuple):
    """One alert of a notification: the host that sent it, and what it says."""

    host: str
    message: str
    status: str
    time: str
    incident: str


class Host:
    """A host: its folder, its clock, its network, and the service's workers on it."""

    def __init__(self, name: str, folder: Path, network: Link, environment: Mapping[str, str]) -> None:
        self.name = name
        self.network = network
        self.port = free_port()
        self._folder = folder
        self._environment = {
            **environment,
            "MONGODB_URI": network.uri,
            "OTEL_RESOURCE_ATTRIBUTES": f"host.name={name}",
            "CLOCK_AHEAD": str(CLOCKS[name]),
        }
        self._running = ExitStack()
        self.service: Service

    def start(self) -> None:
        self._folder.mkdir(exist_ok=True)
        runner = ("uvicorn", "--workers", str(WORKERS), "--log-level", "warning")
        environment: dict[str, Any] = self._environment
        self.service = self._running.enter_context(
            serving(self._folder, SOURCE, runner=runner, port=self.port, **environment)
        )

    def kill(self) -> None:
        """`kill -9` of all its processes."""
        os.killpg(self.service.process.pid, signal.SIGKILL)
        self.service.process.wait(PATIENCE)
        self.end()

    def end(self) -> None:
        self._running.close()

    def get(self, path: str, **parameters: str) -> Any:
        return self.service.get(path, params=parameters or None).raise_for_status().json()


class Hosts:
    """All of it: the hosts, the database, the receiver of notifications, the load and the polls.

    Args:
        folder: Where the hosts have their folders.
        database: The database of the service.
        hook: Receives the notifications.
        loop: Where the networks run.
        quick: Whether to sample each second and to try a store that failed again after a second; else as by default.
        say: Prints what happens.
    """

    def __init__(
        self,
        folder: Path,
        database: Server,
        hook: HttpReceiver,
        loop: Loop,
        *,
        quick: bool,
        say: Callable[[str], object],
    ) -> None:
        self.database = database
        self.hook = hook
        self.say = say
        self._stack = ExitStack()
        self._heat = folder / "heat"
        self._times = 0
        self._limits: dict[str, int] = {}
        """How often at most each incident of the rule is told, by its message."""
        self._write_heat(0)
        environment = {
            "OTEL_MONITORING_STORE": "mongodb",
            "OTEL_MONITORING_ENVIRONMENT": "test",
            "ALERT_WEBHOOK_ALLOW_PRIVATE": "true",
            "ALERT_WEBHOOK_URL": f"http://127.0.0.1:{hook.port}/hook",
            # One of ten requests is an error here.
            "OTEL_MONITORING_THRESHOLD_ERROR_RATE_PERCENT": "50",
            "OTEL_PYTHON_EXCLUDED_URLS": "/python,/raise",
            "OTEL_MONITORING_SAMPLE_INTERVAL": "1" if quick else "10",
            "RETRY_SECONDS": "1" if quick else str(RETRY_SECONDS),
            "HEAT": str(self._heat),
        }
        self.hosts = [
            Host(name, folder / name, self._stack.enter_context(loop.serve(link(database.address))), environment)
            for name in CLOCKS
        ]
        ports = [host.port for host in self.hosts]
        self.load = Load(ports)
        # Each poll is an exchange by the database: one that is slow keeps the machine busy with nothing else.
        self.polls = Polls(ports, a_second=5 if quick and database.name == "FerretDB" else 20)

    def __enter__(self) -> "Hosts":
        try:
            for host in self.hosts:
                self._stack.callback(host.end)
                host.start()
            self._stack.enter_context(self.polls)
            self._stack.enter_context(self.load)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *problem: Any) -> None:
        self._stack.__exit__(*problem)

    # What is asked

    def instances(self, host: Host | None = None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (host or self.hosts[0]).get("/api/health/detailed")["instances"]
        return found

    def leader(self) -> dict[str, Any]:
        return eventually(lambda: next((one for one in self.instances() if one["leads"]), None), "one leads")

    def told(self) -> Counter[tuple[str, str]]:
        """How often each alert was told: message and status."""
        return Counter((each.message, each.status) for each in self.tellings())

    def tellings(self) -> list["Telling"]:
        """What was told, in order. An attempt is repeated under the same id."""
        by_id = {request.headers["webhook-id"]: request.json()["data"] for request in self.hook.accepted}
        return [
            Telling(data["host"], alert["message"], alert["status"], alert["timestamp"], alert["incident"])
            for data in by_id.values()
            for alert in data["alerts"]
        ]

    def _told_once_a_host(self, message: str, before: int = 0) -> None:
        """Check what was told of an alert since there were so many tellings: at most one incident for each host, once.

        The end of one host's incident may be told by another host, when the database is back.
        """
        found = [each for each in self.tellings()[before:] if each.message == message]
        for status in ("firing", "resolved"):
            counts = Counter(each.incident for each in found if each.status == status)
            assert len(counts) <= len(self.hosts), found
            assert all(count == 1 for count in counts.values()), found

    def works(self, *hosts: Host) -> None:
        """Wait until every worker of the hosts uses the database."""

        def asked() -> bool:
            answers = (host.get("/api/health/diagnostics") for host in hosts or self.hosts for _ in range(3 * WORKERS))
            return all(
                each["alerting"]["store_problem"] is None and LATE in each.get("incomplete", LATE) for each in answers
            )

        eventually(asked, "every worker uses the database")

    def fails(self, *hosts: Host) -> None:
        """Wait until every worker of the hosts has noticed that the database is away."""

        def asked() -> bool:
            answers = (host.get("/api/health/diagnostics") for host in hosts or self.hosts for _ in range(3 * WORKERS))
            return all(each["alerting"]["store_problem"] and "incomplete" in each for each in answers)

        eventually(asked, "every worker has noticed")

    def counts(self) -> None:
        """Hold the load, and wait until every worker of every host counts what was sent, and has the same figures."""
        with self.load.paused():
            self._counted()

    def _counted(self) -> None:
        sent = self.load.total
        figures: set[tuple[Any, ...]] = set()

        def counted() -> bool:
            figures.clear()
            for host in self.hosts * (2 * WORKERS):
                figure = host.get("/api/health/metrics")
                figures.add(
                    (figure["requests_recorded"], figure["error_count"], figure["p95_response_time"], figure["since"])
                )
            return len(figures) == 1 and all(sent <= figure[0] <= sent + self.load.unclear for figure in figures)

        try:
            eventually(counted, f"{sent} requests are counted")
        except AssertionError as error:
            raise AssertionError(f"sent {sent}, unclear {self.load.unclear}, counted {sorted(figures)}") from error
        self.polls.check()

    # What befalls it

    def raises(self, host: Host, message: str) -> None:
        assert host.get("/raise", message=message) is True, message

    def is_muted(self, host: Host, kind: str) -> None:
        """Wait until alerts of this type are muted for each worker of the host: a busy database may be late again."""

        def asked() -> bool:
            listed = [host.get("/api/alerts/summary")["muted_alerts"].keys() for _ in range(3 * WORKERS)]
            message = f"muted {time.monotonic()}"
            return all(kind in each for each in listed) and not host.get("/raise", message=message, kind=kind)

        eventually(asked, f"{kind} is muted on {host.name}")

    def hot(self) -> str:
        """Let a rule fire; its message."""
        self._times += 1
        self._write_heat(1)
        return f"It is hot in room-{self._times}"

    def _write_heat(self, value: int) -> None:
        written = self._heat.with_suffix(".new")
        written.write_text(f"room-{self._times} {value}")
        written.replace(self._heat)

    def mute(self, host: Host, kind: str) -> None:
        body = {"type": kind, "duration_seconds": 3600}
        assert host.service.client.post("/api/alerts/mutes", json=body).status_code == 201

    def once(self, message: str, *, by_each: bool = False) -> None:
        """Wait until an incident of the rule was told, and its end: once, or by each host at most once."""
        eventually(lambda: self.told()[message, "firing"], f"{message}: it is told")
        self._write_heat(0)
        eventually(lambda: self.told()[message, "resolved"], f"{message}: its end is told")
        self._limits[message] = len(self.hosts) if by_each else 1
        if by_each:
            self._told_once_a_host(message)
        else:
            told = self.told()
            assert (told[message, "firing"], told[message, "resolved"]) == (1, 1), self.tellings()

    def none_again(self) -> None:
        """Check that no incident that is over was told anew since."""
        told = self.told()
        again = {message for message, limit in self._limits.items() if told[message, "firing"] > limit}
        assert not again, [each for each in self.tellings() if each.message in again]

    def delivered(self) -> None:
        """Wait until nothing waits in any outbox."""

        def asked() -> bool:
            waiting = [host.get("/api/health/diagnostics")["alerting"]["channels"] for host in self.hosts]
            return not any(channel["pending"] for channels in waiting for channel in channels.values())

        eventually(asked, "nothing waits any more")

    def same_history(self) -> Counter[tuple[str, str]]:
        """The history, once every host has it alike, each event once."""
        histories: list[Counter[tuple[str, str]]] = []

        def asked() -> bool:
            events = [host.get("/api/alerts/history?limit=1000") for host in self.hosts]
            histories[:] = [Counter((event["message"], event["status"]) for event in each) for each in events]
            return histories[0] == histories[1]

        eventually(asked, "the history is the same everywhere")
        return histories[0]

    def kill_leader(self) -> None:
        """`kill -9` of the worker that leads: another one leads, and what it had published counts."""
        with self.load.paused():
            self._counted()
            leader = self.leader()
            os.kill(leader["pid"], signal.SIGKILL)

        def another() -> bool:
            listed = self.instances()
            leading = [one["instance_id"] for one in listed if one["leads"]]
            known = {one["instance_id"] for one in listed}
            return bool(leading) and leader["instance_id"] not in known and len(known) == len(self.hosts) * WORKERS

        eventually(another, "another one leads, and the killed one is not listed, but its successor")
        self.once(self.hot())
        self.counts()

    def kill_host(self, host: Host) -> None:
        """`kill -9` of a whole host, which starts again later."""
        others = [one for one in self.hosts if one is not host]
        with self.load.paused():
            self._counted()
            host.kill()
        eventually(lambda: len(self.instances(others[0])) == len(others) * WORKERS, "the killed host is not listed")
        self.once(self.hot())
        host.start()
        self.works()
        self.counts()

    def outage(
        self,
        what: str,
        fail: Callable[[], object],
        end: Callable[[], object],
        *,
        hold: float,
        hosts: Sequence[Host] = (),
        deaf: bool = False,
    ) -> None:
        """The database is out of reach of these hosts: each goes on, and what happened is merged afterwards.

        Args:
            what: Its name.
            fail: Begins it.
            end: Ends it.
            hold: Seconds that it lasts at least, after everybody has noticed.
            hosts: The hosts; none: all of them.
            deaf: Whether meanwhile nobody takes notifications: they wait in the outboxes of the hosts.
        """
        before, already, known = self.told(), len(self.tellings()), f"{what} {time.monotonic():.0f}"
        fail()
        self.fails(*hosts)
        if deaf:
            self.hook.answers[:] = [answer("503 Service Unavailable")]
        for host, kind in zip(self.hosts, MUTED, strict=True):
            self.raises(host, f"{known} on {host.name}")
            self.mute(host, kind)
        message = self.hot()
        if not deaf:
            eventually(lambda: self.told()[message, "firing"], message)
        self.load.grows(40)
        if hold:
            self.hook.answers[:] = [answer()]  # after a minute the next attempt would be a minute away
            time.sleep(hold)
        end()
        self.works()
        self.hook.answers[:] = [answer()]
        for host in self.hosts:
            for kind in MUTED:
                self.is_muted(host, kind)
        self.once(message, by_each=True)
        self.delivered()
        told, history = self.told(), self.same_history()
        for host in self.hosts:
            raised = (f"{known} on {host.name}", "firing")
            assert (told[raised], history[raised]) == (1, 1), raised
        down = "Database connection lost"
        if told[down, "firing"] > before[down, "firing"]:  # a short outage may not be noticed as one
            eventually(lambda: self.told()[down, "resolved"] > before[down, "resolved"], "its end is told")
        self._told_once_a_host(down, already)
        for kind in MUTED:
            assert self.hosts[0].service.client.delete(f"/api/alerts/mutes/{kind}").status_code == 204
        self.counts()
        for what in (message, down):  # nothing was told again meanwhile
            self._told_once_a_host(what, already)

    def story(self, seconds: float = 0.0, *, without: Collection[str] = ()) -> None:
        """Everything that befalls it, once, or again and again for so many seconds; then each outage lasts a minute.

        Args:
            seconds: For how long; 0: once, and quickly.
            without: What is left out.
        """
        began, hold = time.monotonic(), 60.0 if seconds else 0.0
        one, two = self.hosts
        db, net = self.database, two.network
        while True:
            steps: dict[str, Callable[[], object]] = {
                "the leader is killed": self.kill_leader,
                "the database hangs": partial(self.outage, "hang", db.freeze, db.thaw, hold=hold),
                "the database is killed": partial(self.outage, "kill", db.kill, db.start, hold=hold, deaf=True),
                "one host is cut off": partial(self.outage, "cut", net.cut, net.mend, hold=hold, hosts=[two]),
                "a host is killed": partial(self.kill_host, one),
            }
            for what, work in [step for step in steps.items() if step[0] not in without]:
                at = time.monotonic()
                work()
                self.none_again()
                self.say(
                    f"{at - began:4.0f} s: {what}, {time.monotonic() - at:.0f} s; {self.load.total} sent and counted; "
                    f"{self.polls}"
                )
            if time.monotonic() - began >= seconds:
                return


@contextmanager
def two_hosts(
    folder: Path, database: str, loop: Loop, *, quick: bool = True, say: Callable[[str], object] = print
) -> Iterator[Hosts]:
    """One service on two hosts, which runs: see `Hosts`."""
    with (
        DATABASES[database]() as server,
        loop.serve(http()) as hook,
        Hosts(folder, server, hook, loop, quick=quick, say=say) as hosts,
    ):
        yield hosts


def main(seconds: float, database: str) -> None:
    waiting.PATIENCE = 5 * PATIENCE  # the machine may have much else to do
    loop = Loop()
    with tempfile.TemporaryDirectory() as folder, two_hosts(Path(folder), database, loop, quick=False) as hosts:
        hosts.story(seconds)
    loop.close()
    print(  # noqa: T201 - what the program is for
        f"{database}: {hosts.load.total} requests ({dict(hosts.load.answered)}), {hosts.load.unclear} unclear, "
        f"{hosts.polls}, none went back; told: {dict(hosts.told())}"
    )


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2])
