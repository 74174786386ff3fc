"""What a real service says of its database and its checks, and what it does not say: down needs evidence."""

import os
import re
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pymongo.lock
import pytest

from tests.integration.processes import Service, serving
from tests.integration.receivers import Loop, Mailbox, smtp
from tests.integration.servers import Server, nx27017
from tests.waiting import PATIENCE, eventually
from tests.wire import Document, wire_server

CLIENTS = {
    "sync": "from pymongo import MongoClient as Client",
    "async": "from pymongo import AsyncMongoClient as Client",
    "motor": "from motor.motor_asyncio import AsyncIOMotorClient as Client",
}
READS_BLOCK_THE_LOOP = hasattr(pymongo.lock, "_ACondition")
"""Up to PyMongo 4.10 an `AsyncMongoClient` stops its loop until the server has answered: nothing runs beside it."""

SERVICE = """
import asyncio, inspect, logging, os
from contextlib import asynccontextmanager
from pathlib import Path
from fastapi import FastAPI
from otel_monitoring import MonitoringService
{client}

async def done(result):
    return await result if inspect.isawaitable(result) else result

def ask():
    # What the driver does is the application's: in a thread where it blocks.
    return done(db.command("slow")) if KIND != "sync" else asyncio.to_thread(db.command, "slow")

KIND = {kind!r}

@asynccontextmanager
async def lifespan(app):
    yield
    await done(client.close())
    for _ in range(20):  # what goes on while the application is shut down
        try:
            await ask()
        except Exception as error:
            print("after the close:", type(error).__name__, flush=True)
        await asyncio.sleep(0.05)
    Path("closed").touch()
    while not Path("go").exists():
        await asyncio.sleep(0.02)

logging.basicConfig(level=logging.INFO)
app = FastAPI(title="orders", lifespan=lifespan)
client = Client(os.environ["MONGODB_URI"], serverSelectionTimeoutMS=500)
db = client["shop"]
monitoring = MonitoringService(db, check_interval=0.2, sample_interval=0.2, check_timeout=1).instrument(app)

@app.get("/ask")
async def asking():
    return str(await ask())

@app.get("/close")
async def close():
    await done(client.close())
"""


@pytest.fixture
def mailbox(loop: Loop) -> Iterator[Mailbox]:
    with loop.serve(smtp(Mailbox())) as box:
        yield box


@pytest.fixture
def database() -> Iterator[Server]:
    with nx27017() as server:
        yield server


def source(kind: str) -> str:
    return SERVICE.replace("{client}", CLIENTS[kind]).replace("{kind!r}", repr(kind))


def settings(mailbox: Mailbox, uri: str) -> dict[str, Any]:
    return {
        "SMTP_SERVER": "127.0.0.1",
        "SMTP_PORT": str(mailbox.port),
        "SMTP_SECURITY": "none",
        "ALERT_EMAIL_FROM": "orders@example.com",
        "ALERT_EMAIL_TO": "ops@example.com",
        "MONGODB_URI": uri,
    }


def subjects(mailbox: Mailbox) -> list[str]:
    return [str(mail["Subject"]) for mail in mailbox.mails]


def status(service: Service) -> tuple[int, str, list[str]]:
    """Of `/health`, and what `/health/detailed` says of the database and of the reasons."""
    code = service.get("/api/health").status_code
    answer = service.get("/api/health/detailed").json()
    return code, answer["database"]["status"], answer["reasons"]


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("runner", [("uvicorn",), ("gunicorn", "-k", "asgi")], ids=["uvicorn", "gunicorn"])
def test_a_stop_that_closes_the_client_tells_nothing(
    tmp_path: Path, database: Server, mailbox: Mailbox, kind: str, runner: tuple[str, ...]
) -> None:
    with serving(tmp_path, source(kind), runner=runner, **settings(mailbox, database.uri)) as service:
        eventually(lambda: status(service) == (200, "healthy", []), "the database answers")
        service.process.send_signal(signal.SIGTERM)
        eventually((tmp_path / "closed").exists, "the application has closed its client")
        (tmp_path / "go").touch()
        output = service.stop()
    assert "after the close:" in output
    assert subjects(mailbox) == []
    assert "DATABASE" not in output
    assert "Traceback" not in output.split("after the close:")[-1]


MOUNTED = """
from starlette.applications import Starlette
from starlette.routing import Mount

async def own():
    try:
        await done(db.command("ping"))
    except Exception:
        with Path("refused").open("a") as file:
            file.write("x")
        raise

monitoring.add_check("own", own, critical=True)
app = Starlette(routes=[Mount("/", app)], lifespan=lifespan)
"""


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("runner", [("uvicorn",), ("hypercorn",)], ids=["uvicorn", "hypercorn"])
def test_a_stop_that_nobody_tells_of_is_no_failure_of_a_check(
    tmp_path: Path, database: Server, mailbox: Mailbox, kind: str, runner: tuple[str, ...]
) -> None:
    """The lifespan is another application's, and hypercorn's workers get no signal."""
    application = source(kind) + MOUNTED
    with serving(tmp_path, application, runner=runner, **settings(mailbox, database.uri)) as service:
        eventually(lambda: status(service) == (200, "healthy", []), "the database answers")
        service.process.send_signal(signal.SIGTERM)
        eventually((tmp_path / "closed").exists, "the application has closed its client")
        if runner == ("hypercorn",):
            refused = tmp_path / "refused"
            eventually(lambda: refused.exists() and refused.stat().st_size > 5, "the check goes on meanwhile")
        (tmp_path / "go").touch()
        output = service.stop()
    assert subjects(mailbox) == []
    assert "CHECK_FAILED" not in output


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_closed_client_says_nothing_about_the_database(
    tmp_path: Path, database: Server, mailbox: Mailbox, kind: str
) -> None:
    (tmp_path / "go").touch()
    with serving(tmp_path, source(kind), **settings(mailbox, database.uri)) as service:
        eventually(lambda: status(service) == (200, "healthy", []), "the database answers")
        service.get("/close")
        eventually(lambda: status(service)[1] == "unknown", "nothing is known any more")
        assert "after close" in service.get("/api/health/detailed").json()["database"]["error"]
        database.kill()  # whatever becomes of it: this service cannot tell
        evaluated = service.get("/api/alerts/rules").json()
        eventually(lambda: service.get("/api/alerts/rules").json() != evaluated, "the rules are evaluated")
        assert status(service)[:2] == (200, "unknown")
        output = service.stop()
    assert subjects(mailbox) == []
    assert "DATABASE" not in output


@pytest.mark.parametrize("kind", [kind for kind in CLIENTS if kind != "async" or not READS_BLOCK_THE_LOOP])
def test_a_pool_without_a_free_connection_is_degraded_and_has_an_alert_of_its_own(
    tmp_path: Path, mailbox: Mailbox, kind: str
) -> None:
    released = threading.Event()

    def answer(command: Document) -> Document:
        if "slow" in command:
            released.wait(60)
        return {"ok": 1, "cursor": {"id": 0, "ns": "shop.$cmd", "firstBatch": []}}

    (tmp_path / "go").touch()
    with (
        wire_server(answer) as uri,
        serving(tmp_path, source(kind), **settings(mailbox, uri + "&maxPoolSize=1")) as service,
    ):
        eventually(lambda: status(service) == (200, "healthy", []), "the database answers")
        asking = threading.Thread(target=service.ask, args=("/ask",))
        asking.start()
        try:

            def exhausted() -> bool:
                code, database, reasons = status(service)
                found = re.fullmatch(r"database: no free connection within [\d.]+ s", " ".join(reasons))
                return (code, database) == (200, "degraded") and found is not None

            eventually(exhausted, "the pool is exhausted")
            eventually(lambda: mailbox.mails, "a mail about the pool")
            assert status(service)[0] == 200
        finally:
            released.set()
            asking.join()
        eventually(lambda: len(mailbox.mails) > 1, "its end is told")
        eventually(lambda: status(service) == (200, "healthy", []), "nothing is wrong any more")
        service.stop()
    assert subjects(mailbox) == [
        "[orders] ERROR DATABASE_POOL_EXHAUSTED firing",
        "[orders] ERROR DATABASE_POOL_EXHAUSTED resolved",
    ]


def is_locked(folder: Path) -> bool:
    """Whether a process holds the lock of the store's file for longer than a transaction takes."""
    [path] = folder.glob("*.db")
    with closing(sqlite3.connect(path, timeout=PATIENCE / 20, isolation_level=None)) as file:
        try:
            file.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        file.execute("ROLLBACK")
        return False


@pytest.mark.long
def test_a_worker_that_stands_still_silences_no_other(tmp_path: Path, database: Server, mailbox: Mailbox) -> None:
    (tmp_path / "go").touch()
    env = settings(mailbox, database.uri)
    with serving(tmp_path, source("sync"), runner=("gunicorn", "-k", "asgi", "-w", "3"), **env) as service:

        def frozen_leader() -> int | None:
            answer = service.diagnostics()
            leads = answer["worker"]["instance_id"] == answer["alerting"]["leader"]
            if not leads or answer["database"]["status"] != "healthy":
                return None
            pid: int = answer["worker"]["pid"]
            os.kill(pid, signal.SIGSTOP)
            if not is_locked(tmp_path / "state"):
                return pid
            os.kill(pid, signal.SIGCONT)  # where the store itself stands still, each worker tells what it knows
            return None

        frozen = eventually(frozen_leader, "the leader answers, and stands still outside of a transaction")
        try:
            database.kill()
            eventually(lambda: mailbox.mails, "another worker leads, and tells")
        finally:
            os.kill(frozen, signal.SIGCONT)
        database.start()
        eventually(lambda: len(mailbox.mails) > 1, "its end is told")
        service.stop()
        told = subjects(mailbox)
        assert told == ["[orders] CRITICAL DATABASE_DOWN firing", "[orders] CRITICAL DATABASE_DOWN resolved"], told


CHECKED = """
import asyncio
from pathlib import Path
from fastapi import FastAPI
from otel_monitoring import MonitoringService

app = FastAPI(title="orders")
monitoring = MonitoringService(None, check_interval=0.2, sample_interval=0.2).instrument(app)

class Unprintable(Exception):
    def __str__(self):
        raise SystemExit(4)

def failing(error):
    def check():
        if not Path("mended").exists():
            raise error
    return check

async def exits():
    failing(SystemExit("psp://user:hunter2@pay refused"))()

async def cancelled():
    failing(asyncio.CancelledError())()

monitoring.add_check("payments", exits, critical=True)
monitoring.add_check("cancelled", cancelled)
monitoring.add_check("interrupted", failing(KeyboardInterrupt()))
monitoring.add_check("unprintable", failing(Unprintable()))
monitoring.meter.create_observable_gauge("waiting", [lambda _: failing(SystemExit(5))() or []])
"""


def test_checks_that_exit_are_alerts_and_reasons_and_end_nothing(tmp_path: Path, mailbox: Mailbox) -> None:
    with serving(tmp_path, CHECKED, **settings(mailbox, "")) as service:
        reasons = [
            "check payments fails: SystemExit: psp://[REDACTED]@pay refused",
            "check cancelled fails: CancelledError",
            "check interrupted fails: KeyboardInterrupt",
            "check unprintable fails: unprintable Unprintable",
        ]
        eventually(lambda: service.get("/api/health/detailed").json()["reasons"] == reasons, "all have run")
        assert service.get("/api/health").status_code == 503
        assert service.get("/api/health/live").status_code == 200

        def told() -> set[tuple[str, str, str, str]]:
            events = service.get("/api/alerts/history").json()
            return {(e["type"], e["severity"], e["status"], e["labels"]["check"]) for e in events}

        firing = {
            ("check_failed", "critical", "firing", "payments"),
            ("check_failed", "warning", "firing", "cancelled"),
            ("check_failed", "warning", "firing", "interrupted"),
            ("check_failed", "warning", "firing", "unprintable"),
        }
        eventually(lambda: told() == firing, "each is an alert")
        (tmp_path / "mended").touch()
        eventually(lambda: service.get("/api/health").json()["status"] == "healthy", "all pass")
        eventually(lambda: len(told()) == 8, "each is over")
        eventually(lambda: "resolved" in " ".join(subjects(mailbox)), "that is told")
        output = service.stop()
    text = "".join(mail.as_string() for mail in mailbox.mails)
    assert "CHECK_FAILED" in text
    assert "hunter2" not in text + output
