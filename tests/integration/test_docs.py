"""What the pages say about answers and metrics, held against a service that is watched through good and bad times."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from otel_monitoring.semconv import SCHEMA_URL, SCOPE
from tests import registry
from tests.documented_keys import compare, places
from tests.integration.processes import Service, serving
from tests.integration.receivers import Loop, http
from tests.integration.servers import nx27017
from tests.otlp_sink import HttpSink
from tests.pages import PAGES, Block, blocks, keys, name_of, names, page, rows
from tests.ports import free_port
from tests.registry import conventions
from tests.waiting import eventually

SOURCE = """
import asyncio, contextvars, logging, os, threading
from fastapi import FastAPI
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import InvalidName

from otel_monitoring import MonitoringService, seams
from otel_monitoring.alerts import AlertType, Gauge, Rule
from otel_monitoring.tracing import traced

logging.basicConfig(level=logging.INFO)
app = FastAPI(title="orders", version="1.2")
client = AsyncMongoClient(os.environ["MONGODB_URI"], serverSelectionTimeoutMS=500)


class Shop(AsyncDatabase):
    def __getitem__(self, name):
        if name == "invoices":
            raise InvalidName(name)
        return super().__getitem__(name)


db = Shop(client, "shop")
monitoring = MonitoringService(
    db, check_interval=0.5, sample_interval=0.2, check_timeout=1, slow_command_ms=0.001, explain=True
).instrument(app)
waiting = monitoring.meter.create_gauge("orders.waiting")
read = monitoring.meter.create_counter("orders.read")
monitoring.add_rule(
    Rule("backlog", Gauge("orders.waiting"), ">", 100, "{value:.0f} orders wait", labels={"queue": "main"},
         runbook="https://wiki.example.com/backlog")
)


class Broken(Gauge):
    def readings(self, window, *, above=None, known=()):
        raise ValueError("no such thing")


monitoring.add_rule(Rule("broken", Broken("orders.waiting"), ">", 1))


def printer():
    raise OSError("out of paper")


monitoring.add_check("printer", printer)
monitoring.add_check("stock", lambda: True, critical=True)
seams.RUNNERS.lost(LookupError("as a test has it"))


@traced("orders.clean")
async def clean():
    await db.orders.delete_many({"number": -1})


@app.get("/orders/{number}")
@traced("order.read")
async def order(number: int):
    await db.orders.insert_one({"number": number})
    await db.get_collection("invoices").insert_one({"number": number})
    await db.users.insert_one({"number": number})
    for other in range(10):
        await db.users.find_one({"other": other})
    asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(clean()), context=contextvars.Context())
    waiting.set(number)
    waiting.set(number, {"warehouse": "north"})
    read.add(1, {"warehouse": "north"})
    return number


@app.get("/typed/{number}")
async def typed(number: int):
    return number


@app.get("/fail")
async def fail():
    await monitoring.add_alert(AlertType.BILLING_FAILURE, "no provider", details={"order": 7})
    raise RuntimeError("billing is down")


class Told(logging.Handler):
    blocked = threading.Event()

    def emit(self, record):
        if "has been blocked" in record.getMessage():
            self.blocked.set()


logging.getLogger("otel_monitoring").addHandler(Told())


@app.get("/block")
async def block():
    assert Told.blocked.wait(30)
"""
ENDPOINTS = "docs/endpoints.md"
TOKEN = "token-of-the-test"
ANSWERS = {
    "/health": "health",
    "/health/live": "live-and-ready",
    "/health/ready": "live-and-ready",
    "/health/detailed": "detailed",
    "/health/metrics": "performance",
    "/health/diagnostics": "diagnostics",
    "/health/errors": "errors",
    "/health/objectives": "objectives",
    "/health/series?metric=requests&range=15m": "series",
    "/health/series?metric=p95&metric=durations&range=15m": "columns",
    "/alerts/summary": "summary",
    "/alerts/history": "history",
    "/alerts/firing": "firing",
    "/alerts/rules": "rules",
    "/alerts/mutes": "mutes",
    "/alerts/maintenance": "maintenance",
    "POST /alerts/mutes": "mute",
    "POST /alerts/{incident}/acknowledge": "acknowledge",
    "POST /alerts/test": "test",
}


class Seen:
    """Every answer and every export of one service, from its start to the death of its database."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Any]] = {path: [] for path in ANSWERS}
        self.metrics: dict[str, tuple[str, str, set[str]]] = {}
        """By name: kind, unit, and every attribute there was."""
        self.attributes: dict[str, set[str]] = {}
        """The attributes of resources, spans and log records, by `resource`, the span's kind, or the event's name."""
        self.events: set[str] = set()
        """The names of the log events of our scopes, and of the span events."""
        self.schemas: dict[str, set[str]] = {}
        """The schema URLs of resources and instrumentation scopes, by the scope's name."""

    def look(self, service: Service) -> None:
        for path, answers in self.answers.items():
            if path.startswith("/"):
                answers.append(service.get(f"/api{path}").json())

    def note(self, sink: HttpSink) -> None:
        for metric in sink.metrics():
            data = getattr(metric, metric.WhichOneof("data"))
            attributes = {attribute.key for point in data.data_points for attribute in point.attributes}
            before = self.metrics.get(metric.name, ("", "", set()))[2]
            self.metrics[metric.name] = (_kind(metric), metric.unit, before | attributes)
        for signal in ("traces", "metrics", "logs"):
            for message in sink.of(signal):
                for exported in getattr(message, f"resource_{_ITEMS[signal][0]}"):
                    self._note_exported(exported, *_ITEMS[signal])

    def _note_exported(self, exported: Any, scopes: str, items: str) -> None:
        self._note_attributes("resource", exported.resource)
        self.schemas.setdefault("resource", set()).add(exported.schema_url)
        for scoped in getattr(exported, f"scope_{scopes}"):
            self.schemas.setdefault(scoped.scope.name, set()).add(scoped.schema_url)
            if items == "metrics":
                continue
            for item in getattr(scoped, items):
                if items == "log_records":
                    if item.event_name:  # the others are records of `logging`
                        self.events.add(item.event_name)
                        self._note_attributes(item.event_name, item)
                    continue
                self._note_attributes("span", item)
                for event in item.events:
                    self.events.add(event.name)
                    self._note_attributes(event.name, event)

    def _note_attributes(self, of: str, item: Any) -> None:
        self.attributes.setdefault(of, set()).update(attribute.key for attribute in item.attributes)


_ITEMS = {"traces": ("spans", "spans"), "metrics": ("metrics", "metrics"), "logs": ("logs", "log_records")}


def _kind(metric: Any) -> str:
    if metric.WhichOneof("data") == "sum":
        return "counter" if metric.sum.is_monotonic else "up-down counter"
    return "gauge" if metric.WhichOneof("data") == "gauge" else "histogram"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What a service says while it works, is blocked, flaps, fails, and loses its database."""
    found, loop = Seen(), Loop()
    with (
        closing(loop),
        loop.serve(http()) as hook,
        HttpSink() as sink,
        nx27017() as database,
        serving(
            tmp_path_factory.mktemp("service"),
            SOURCE,
            ready="/api/health/ready",
            MONGODB_URI=database.uri,
            OTEL_MONITORING_ACCESS="admin",
            OTEL_MONITORING_ADMIN_TOKEN=TOKEN,
            OTEL_MONITORING_MAX_COLLECTIONS="2",
            OTEL_MONITORING_THRESHOLD_EVENT_LOOP_LAG_MS="500",
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
            OTEL_METRIC_EXPORT_INTERVAL="300",
            SLACK_WEBHOOK_URL=f"http://127.0.0.1:{free_port()}/",
            ALERT_WEBHOOK_URL=f"http://127.0.0.1:{hook.port}/",
            ALERT_WEBHOOK_ALLOW_PRIVATE="true",
        ) as service,
    ):
        service.client.headers["authorization"] = f"Bearer {TOKEN}"
        found.look(service)
        ietf = service.get("/api/health", headers={"accept": "application/health+json"})
        found.answers["/api/health application/health+json"] = [ietf.json()]
        live_through(service, found)
        mute = {"type": "database_slow", "labels": {"queue": "main"}, "author": "ana", "reason": "known"}
        found.answers["POST /alerts/mutes"].append(service.client.post("/api/alerts/mutes", json=mute).json())
        service.client.post("/api/alerts/mutes", json={"type": "api_timeout"}).raise_for_status()
        acknowledge_one(service, found)
        found.answers["POST /alerts/test"].append(service.client.post("/api/alerts/test").json())
        assert service.get("/api/health", headers={"authorization": "Bearer wrong"}).status_code == 200
        assert service.get("/api/health/metrics", headers={"authorization": "Bearer wrong"}).status_code == 401
        eventually(lambda: len(sink.metrics()) and service.diagnostics()["telemetry"]["logs"]["exported"], "exported")
        found.look(service)
        database.kill()
        eventually(lambda: service.get("/api/health").status_code == 503, "the database is down")
        eventually(lambda: "collections_error" in service.diagnostics()["database"], "collections cannot be read")
        found.look(service)
        service.stop()
        found.note(sink)
        found.answers["webhook"] = [request.json() for request in hook.requests]
    return found


def acknowledge_one(service: Service, found: Seen) -> None:
    """Acknowledge what fires, so that the history and the firing alerts say so."""
    (alert, *_) = service.get("/api/alerts/firing").json()
    path = f"/api/alerts/{alert['incident']}/acknowledge"
    said = {"author": "ana", "reason": "on it"}
    days = {"days": ["sun"], "from": "02:00", "to": "04:00"}
    for window in (
        {"from": "2098-12-24T22:00:00Z", "to": "2098-12-25T02:00:00Z", "labels": {"queue": "main"}, "author": "ana"},
        {"weekly": days, "timezone": "Europe/Berlin", "type": "custom", "rule": "backlog", "reason": "import"},
    ):
        service.client.post("/api/alerts/maintenance", json=window).raise_for_status()
    found.answers["POST /alerts/{incident}/acknowledge"].append(service.client.post(path, json=said).json())
    found.look(service)


def live_through(service: Service, found: Seen) -> None:
    def firing(rule: str) -> dict[str, Any] | None:
        return next((alert for alert in service.get("/api/alerts/firing").json() if alert["rule"] == rule), None)

    for _ in range(3):
        service.get("/orders/200").raise_for_status()
        alert = eventually(lambda: firing("backlog"), "the backlog fires")
        if not alert.get("flapping"):
            service.get("/orders/2").raise_for_status()
            eventually(lambda: firing("backlog") is None, "the backlog is over")
    assert service.get("/fail").status_code == 500
    assert service.get("/typed/seven").status_code == 422
    service.get("/block").raise_for_status()
    eventually(lambda: service.diagnostics()["event_loop"]["last_stall"], "the stall is seen")
    eventually(lambda: service.diagnostics()["checks"]["printer"].get("error"), "the check fails")
    eventually(lambda: "collections_total" in service.diagnostics()["database"], "collections are read")
    eventually(lambda: service.diagnostics()["alerting"]["channels"]["slack"].get("next_attempt"), "it is tried again")
    series = "/api/health/series?metric=requests&range=15m"
    eventually(lambda: any(point["value"] for point in service.get(series).json()["points"]), "the past begins")
    found.look(service)


# A damaged state file: tests/alerts/store/test_sqlite.py has some.
# A store that fails: tests/monitoring/test_service_exchange.py has one.
# Prometheus, and mutes that are silences: tests/integration/test_prometheus.py has one.
# What objectives say is known after a minute: tests/integration/test_objectives.py has a service that has a past.
_OBJECTIVES = {
    ".objectives.[].spent_by.[]",
    ".objectives.[].spent_by.[].endpoint",
    ".objectives.[].spent_by.[].percent",
    ".objectives.[].endpoints",
    ".objectives.[].endpoints.[]",
}
# What changed when an alert began: tests/alerts/evidence/test_evidence.py has every kind of it.
_EVIDENCE = re.compile(r"(\.\[\]|\.alerts\.\[\]|\.recent_alerts\.\[\])\.evidence\b")
NOT_PROVOKED = {
    *_OBJECTIVES,
    *(".alerting.channels.<channel>.unreadable", ".incomplete", ".performance.incomplete", ".silenced"),
    *(".last_error_scope", ".performance.last_error_scope", ".details_scope", ".database.routes.details_scope"),
    *(f".alerting.engine{key}" for key in ("", ".evaluates", ".problem", ".mutes_problem")),
}


@pytest.mark.integration
@pytest.mark.parametrize("path", ANSWERS)
def test_every_key_of_an_answer_is_documented_and_every_documented_key_is_there(seen: Seen, path: str) -> None:
    tree, known = keys(ENDPOINTS, ANSWERS[path]), set[str]()
    wrong = {text for answer in seen.answers[path] for text in compare(answer, tree, "", known)}
    assert wrong == set()
    missing = {place for place in places(tree, "") if not _EVIDENCE.match(place)} - known
    assert missing <= NOT_PROVOKED


@pytest.mark.integration
def test_every_metric_is_documented_with_kind_unit_and_attributes(seen: Seen) -> None:
    documented = {
        names(metric)[0]: (kind, unit, set(names(attributes)))
        for metric, kind, unit, attributes, _ in (cells for cells in rows(page("docs/metrics.md")) if len(cells) == 5)
    }
    assert seen.metrics.keys() - documented.keys() == {"orders.read", "orders.waiting"}
    for name, (kind, unit, attributes) in seen.metrics.items():
        if name in documented:
            assert (kind, unit) == documented[name][:2], name
            assert attributes <= documented[name][2], name
    # Nothing waits for a connection in vain here, nothing is given up, and the application counts no failures.
    assert documented.keys() - seen.metrics.keys() <= {"db.client.connection.timeouts", *NOT_MEASURED}


NOT_MEASURED = {
    "otel_monitoring.notifications.failed": "a channel that refuses: tests/alerts/notify",
    "otel_monitoring.database.retries": "a command that the driver repeats",
    "billing.failures": "an application that counts them",
    "delivery.failures": "an application that counts them",
}
NOT_TOLD = {
    "otel_monitoring.operation.exception": "exceptions that are log events: tests/tracing/test_operation.py",
    "fastapi.websocket.exception": "a WebSocket that fails: tests/conformance/test_requests.py",
}
NOT_SAID = {
    "otel_monitoring.alert.label": "it is a template",
    "otel_monitoring.database.retries": "a command that the driver repeats",
}
EVENTS = {"exception", "http.server.request.exception"}
"""Of the conventions: https://opentelemetry.io/docs/specs/semconv/exceptions/ and .../http/http-exceptions/."""
APPLICATION = {"orders.read", "orders.waiting"}


@pytest.mark.integration
def test_everything_that_leaves_is_of_the_conventions_or_in_the_registry_and_all_of_that_leaves(seen: Seen) -> None:
    known = {name: (one.kind, one.unit) for name, one in registry.metrics().items()} | conventions.metrics()
    known["otel.sdk.processor.log.queue.size"] = ("up-down counter", "{log}")  # as the SDK has it
    assert {name: known.get(name) for name in seen.metrics.keys() - APPLICATION} == {
        name: (kind, unit) for name, (kind, unit, _) in seen.metrics.items() if name not in APPLICATION
    }
    assert registry.metrics().keys() - seen.metrics.keys() <= NOT_MEASURED.keys()

    assert seen.events <= registry.events().keys() | EVENTS
    assert registry.events().keys() - seen.events <= NOT_TOLD.keys()

    used = {name for name, (_, _, attributes) in seen.metrics.items() if name not in APPLICATION for name in attributes}
    used = used.union(*seen.attributes.values())
    assert {name for name in used if not conventions.names_attribute(name) and not in_registry(name)} == set()
    assert {name for name in registry.attributes() if name not in used} <= NOT_SAID.keys()
    for name, signal in (registry.metrics() | registry.events()).items():
        said = (
            seen.attributes.get(name, set()) if signal.kind == "event" else seen.metrics.get(name, ("", "", set()))[2]
        )
        assert {one for one in said if one not in signal.attributes and not is_label(one)} == set(), name


def is_label(name: str) -> bool:
    return any(name.startswith(f"{one.name}.") for one in registry.attributes().values() if one.template)


def in_registry(name: str) -> bool:
    return name in registry.attributes() or is_label(name)


@pytest.mark.integration
def test_all_that_is_ours_has_one_schema_url(seen: Seen) -> None:
    ours = {name: urls for name, urls in seen.schemas.items() if name.partition(".")[0] == SCOPE}
    assert ours.keys() > {SCOPE}
    assert set().union(*ours.values(), seen.schemas["resource"]) == {SCHEMA_URL}


def like(example: Any, answer: Any) -> bool:
    """Whether an answer has all that an example has, of the same kinds."""
    if isinstance(example, dict):
        return isinstance(answer, dict) and all(
            key in answer and like(value, answer[key]) for key, value in example.items()
        )
    if isinstance(example, list):
        return isinstance(answer, list) and all(any(like(item, other) for other in answer) for item in example)
    return isinstance(answer, type(example)) or (isinstance(example, int | float) and isinstance(answer, int | float))


def examples() -> Iterator[tuple[Block, str]]:
    """Each block of JSON, and which answer it is an example of: the fence says so, or the command before it."""
    for path in PAGES:
        asked = ""
        for block in blocks(name_of(path)):
            if block.language == "sh":
                found = re.findall(r"curl .*?localhost:8000/api(\S+)", block.text)
                accept = re.search(r"Accept: (\S+)'", block.text)
                asked = f"/api{found[-1]} {accept[1]}" if found and accept else found[-1] if found else ""
            elif block.language == "json":
                yield block, block.about or asked


@pytest.mark.integration
@pytest.mark.parametrize(("block", "what"), list(examples()), ids=lambda value: getattr(value, "place", ""))
def test_examples_of_answers_are_as_the_service_answers(seen: Seen, block: Block, what: str) -> None:
    example, answers = json.loads(block.text), seen.answers[what]
    if what == "/health/objectives":  # a service without a past has less to say: the example is as the keys are
        assert list(compare(example, keys(ENDPOINTS, ANSWERS[what]), "", set())) == []
        return
    items = answers if not isinstance(answers[0], list) or isinstance(example, list) else chain(*answers)
    assert any(like(example, answer) for answer in items)


@pytest.mark.integration
def test_the_webhook_gets_what_the_page_shows(seen: Seen) -> None:
    (shown,) = (json.loads(block.text) for block in blocks("docs/alerts.md") if block.about == "webhook")
    assert seen.answers["webhook"]
    for got in seen.answers["webhook"]:
        assert (got.keys(), got["data"].keys()) == (shown.keys(), shown["data"].keys())
        for alert in got["data"]["alerts"]:
            assert list(compare(alert, keys(ENDPOINTS, "alert"), "", set())) == []


@pytest.mark.integration
def test_a_newcomer_gets_as_far_as_the_page_says(tmp_path: Path) -> None:
    """Every step of the page, with the real commands' requests; only port and database are the test's own."""
    pages = list(blocks("docs/getting-started.md"))
    source = next(block.text for block in pages if block.language == "python")
    token = re.findall(r"OTEL_MONITORING_ADMIN_TOKEN=(\S+)", page("docs/getting-started.md"))[0]
    with (
        nx27017() as database,
        serving(
            tmp_path,
            source.replace("mongodb://localhost:27017", database.uri),
            OTEL_MONITORING_ACCESS="admin",
            OTEL_MONITORING_ADMIN_TOKEN=token,
        ) as service,
    ):
        commands = [shlex.split(line) for b in pages if b.language == "sh" for line in b.text.splitlines()]
        asked = [(words, curl(service, words)) for words in commands if words[0] == "curl"]
        assert {answer.status_code for words, answer in asked if not words[-1].endswith("/receipt")} == {200}
        assert [answer.status_code for words, answer in asked if words[-1].endswith("/receipt")] == [500]
        headers = {"authorization": f"Bearer {token}"}
        figures = service.get("/api/health/metrics", headers=headers).json()
        assert figures["last_error"] == "RuntimeError: the printer is out of paper (GET /orders/{number}/receipt)"
        database.kill()
        eventually(lambda: service.get("/api/health").status_code == 503, "the database is down")
        eventually(lambda: service.get("/api/alerts/firing", headers=headers).json(), "the alert fires")
        assert "DATABASE_DOWN: Database connection lost" in service.output
        # What `replay` prints needs a past: tests/cli/test_replay.py has one.
        shown = [block.text for block in blocks("docs/command-line.md") if block.language == "text"][:2]
        for command, text in zip((["check"], ["watch", "--once"]), shown, strict=True):
            said = subprocess.run(
                [sys.executable, "-m", "otel_monitoring.cli", *command, service.url],
                env={**os.environ, "OTEL_MONITORING_ADMIN_TOKEN": token},
                capture_output=True,
                check=False,
                text=True,
            )
            assert labels(text) - labels(said.stdout) == set(), said.stdout


def example(name: str, part: str) -> str:
    """The example of a page that has this part."""
    return next(block.text for block in blocks(name) if block.language == "python" and part in block.text)


@pytest.mark.integration
def test_a_client_made_in_the_lifespan_is_checked(tmp_path: Path) -> None:
    source = example("docs/getting-started.md", "watch_database")
    with (
        nx27017() as database,
        serving(tmp_path, source.replace("mongodb://localhost:27017", database.uri)) as service,
    ):
        eventually(lambda: service.diagnostics()["database"]["status"] == "healthy", "the database is found")


@pytest.mark.integration
def test_a_dependency_of_the_applications_own_guards_the_details(tmp_path: Path) -> None:
    with serving(tmp_path, example("docs/endpoints.md", "require_admin"), ADMIN_PASSWORD="of the test") as service:
        assert service.get("/api/health/detailed").status_code == 401
        assert service.get("/api/health/detailed", auth=("ana", "guessed")).status_code == 403
        assert service.get("/api/health/detailed", auth=("ana", "of the test")).status_code == 200
        assert service.get("/api/health").status_code == 200


@pytest.mark.integration
def test_checks_and_rules_of_the_applications_own_are_seen(tmp_path: Path) -> None:
    with serving(tmp_path, example("docs/alerts.md", "add_check")) as service:
        assert service.client.post("/api/orders/").json() == {"status": "placed"}
        eventually(lambda: service.diagnostics()["checks"]["payment provider"]["status"] == "healthy", "it is checked")
    with serving(tmp_path, example("docs/alerts.md", "add_rule")) as service:
        rules = {rule["name"]: rule for rule in service.get("/api/alerts/rules").json()}
        assert (rules["backlog"]["hold_seconds"], rules["backlog"]["clear"]) == (60, 80)


def labels(output: str) -> set[str]:
    """What each line begins with, whatever the figures are."""
    return {re.sub(r"\d+", "0", re.split(r"\s{2,}", line.strip())[0]) for line in output.splitlines() if line.strip()}


def curl(service: Service, words: list[str]) -> httpx.Response:
    """What `curl` with these arguments would ask, asked of the service."""
    options = dict(pairwise(words))
    path = words[-1].removeprefix("localhost:8000")
    name, _, value = options.get("-H", "").partition(": ")
    return service.client.request(options.get("-X", "GET"), path, headers={name: value} if name else {})
