"""A real Prometheus and Debian's Alertmanager answer for 200 instances: what was sent, and what fires told once."""

import json
import math
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from otel_monitoring import semconv as c
from otel_monitoring.alerts.rules.defaults import default_rules
from otel_monitoring.config.settings import Thresholds
from otel_monitoring.export import ExportOptions, prometheus
from tests.http_server import HttpServer
from tests.integration.collector import CONFIG
from tests.integration.processes import Service, serving
from tests.integration.prometheus_server import Prometheus, prometheus_server
from tests.integration.simulated_instances import SCALE, Instance, Request, exported
from tests.integration.test_channels_alertmanager import alertmanager
from tests.ports import free_port
from tests.waiting import eventually

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

INSTANCES = {"native": 200, "classic": 40}
CHANGED = 10
"""One of so many ends, and as many begin."""
STEP = 60
STEPS = 11
"""Ten minutes, in exports every minute."""
SERVICE = "orders"
SOURCE = """
from fastapi import FastAPI
from otel_monitoring import MonitoringService

app = FastAPI(title="orders")
monitoring = MonitoringService(None).instrument(app)
placed = monitoring.meter.create_counter("orders.placed", "{order}")

@app.post("/place")
async def place() -> None:
    placed.add(1)

@app.post("/alert")
async def alert() -> None:
    await monitoring.add_alert("delivery_issue", "a van is missing")
"""
RULES = [rule for rule in default_rules(Thresholds(error_rate_percent=2)) if rule.scope == "service"]
SOON = "--rules.alert.resend-delay=1s"
"""It tells an Alertmanager that it found after the alert began; by default a minute later."""
ALERTMANAGER = """
route: {{receiver: people, group_by: ["..."], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}
receivers: [{{name: people, webhook_configs: [{{url: "{url}", send_resolved: false}}]}}]
"""


@dataclass
class Sent:
    """What all instances together measured: each request with the step in which it ended."""

    until: float
    requests: list[tuple[int, Request]] = field(default_factory=list)
    placed: int = 0
    commands: Counter[str] = field(default_factory=Counter)
    waited: Counter[str] = field(default_factory=Counter)
    """Commands, and thousandths of a second that they took, by route or operation."""

    def of(self, steps: range, route: str | None = None) -> list[Request]:
        return [request for step, request in self.requests if step in steps and route in (None, request.route)]

    def windows(self, now: float) -> list[range]:
        """The steps that may be in the window of an answer: it was asked between the last step and `now`."""
        ages = range(int(now - self.until) // STEP + 2)
        return [range(max(0, STEPS - 300 // STEP + age), STEPS) for age in (0, *ages)]


def quantile(requests: Sequence[Request], q: float) -> float:
    ordered = sorted(request.seconds for request in requests)
    return ordered[min(len(ordered) - 1, math.ceil(q * len(ordered)) - 1)]


@dataclass
class World:
    sent: Sent
    instances: list[Instance]
    prometheus: Prometheus
    alertmanager: str
    people: HttpServer
    service: Service
    restart: Any
    native: bool

    def told(self, name: str) -> int:
        """How often people were told of an alert."""
        bodies = [json.loads(request.body) for request in self.people.requests]
        return sum(alert["labels"]["alertname"] == name for body in bodies for alert in body["alerts"])

    def export(self, at: float) -> None:
        send(self.prometheus, self.running, at)

    @property
    def running(self) -> list[Instance]:
        return self.instances[len(self.instances) // CHANGED :]


def send(server: Prometheus, instances: Sequence[Instance], at: float) -> None:
    answer = server.client.post(
        f"{server.otlp}/v1/metrics",
        content=exported(instances, at).SerializeToString(),
        headers={"Content-Type": "application/x-protobuf"},
    )
    assert answer.is_success, answer.text


def traffic(server: Prometheus, instances: Sequence[Instance]) -> Sent:
    """Ten minutes: a tenth of the instances ends, as many begin, and of many one starts again with its identity."""
    until = time.time() - 20  # answers are of a moment some seconds ago, of a longer time where Prometheus takes longer
    rng, sent, few = random.Random(7), Sent(until), len(instances) // CHANGED
    for step in range(STEPS):
        at = until - STEP * (STEPS - 1 - step)
        live = instances[:-few] if step < 4 else instances[few:]
        if step == 6 and len(instances) >= 100:
            live[0].start(at - 1)  # of a counter that begins anew, Prometheus misses what there is at first
        for instance in live:
            requests = [Request("/orders", 200, rng.lognormvariate(-3, 0.6)) for _ in range(8)]
            requests += [Request("/pay", 500 if rng.random() < 0.5 else 200, rng.lognormvariate(-2, 0.4))]
            requests += [Request("", 404, 0.002)]
            instance.serve(requests)
            instance.count("orders.placed", 2)
            instance.gauges[c.DATABASE_UP, "1"] = 1.0
            work(rng, instance, sent)
            sent.requests += [(step, request) for request in requests]
            sent.placed += 2
        send(server, live, at)
    return sent


def work(rng: random.Random, instance: Instance, sent: Sent) -> None:
    """What two routes and an operation do with the database in a step; a payment sends two commands."""
    pay = {c.HTTP_REQUEST_METHOD: "GET", c.HTTP_ROUTE: "/pay"}
    unmatched = {c.HTTP_REQUEST_METHOD: "GET"}
    operation = {c.OPERATION_NAME: "import"}
    requests, operations = (
        (c.COMMANDS_OF_REQUESTS, c.DATABASE_TIMES_OF_REQUESTS),
        (c.COMMANDS_OF_OPERATIONS, c.DATABASE_TIMES_OF_OPERATIONS),
    )
    for kinds, name, attributes, commands in (
        (requests, "GET /pay", pay, 2),
        (requests, f"GET {c.UNMATCHED_ROUTE}", unmatched, 1),
        (operations, "import", operation, 30),
    ):
        millis = rng.randrange(2, 60)
        for kind, value in zip(kinds, (commands, millis / 1000), strict=True):
            instance.record(kind, value, attributes)
        sent.commands[name] += commands
        sent.waited[name] += millis
    instance.record(c.OPERATION_DURATIONS, 0.5, operation)


@pytest.fixture(scope="module", params=["native", "classic"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Native: exponential histograms. Classic: explicit buckets in a Prometheus that does not convert them."""
    native = request.param == "native"
    folder = tmp_path_factory.mktemp(request.param)
    with ExitStack() as stack:
        people = stack.enter_context(HttpServer())
        peer = stack.enter_context(alertmanager(folder / "am", ALERTMANAGER.format(url=people.url)))
        config, port = configured(folder, peer, native=native), free_port()
        running = ExitStack()
        server = running.enter_context(prometheus_server(folder, port, SOON, config=config))

        def restart() -> None:
            running.enter_context(prometheus_server(folder, port, SOON, config=config))

        instances = [
            Instance(f"sim-{i}", SERVICE, time.time() - 3000, explicit=not native)
            for i in range(INSTANCES[request.param])
        ]
        sent = traffic(server, instances)
        service = stack.enter_context(
            process(
                folder,
                server,
                OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=f"{server.otlp}/v1/metrics",
                OTEL_MONITORING_THRESHOLD_ERROR_RATE_PERCENT="2",
            )
        )
        service.client.post("/place").raise_for_status()  # a process asks for the counters that it has itself
        world = World(sent, instances, server, peer, people, service, (running, restart), native)
        try:
            yield world
        finally:
            running.close()


def process(folder: Path, engine: Prometheus, interval: int = 1, **more: Any) -> AbstractContextManager[Service]:
    """A process of the service, which asks a server with Prometheus' API every `interval` seconds."""
    return serving(
        folder,
        SOURCE,
        OTEL_SERVICE_NAME=SERVICE,
        OTEL_MONITORING_PROMETHEUS_URL=engine.url,
        OTEL_MONITORING_PROMETHEUS_TIMEOUT="20",
        OTEL_MONITORING_SAMPLE_INTERVAL=str(interval),
        OTEL_METRIC_EXPORT_INTERVAL=str(STEP * 1000),
        **more,
    )


def configured(folder: Path, peer: str, *, native: bool) -> Path:
    """The committed configuration with the exported rules, evaluated every three seconds, and an Alertmanager."""
    (folder / "rules.yaml").write_text(
        prometheus(RULES, ExportOptions(histograms="native" if native else "classic", interval=3))
    )
    config = yaml.safe_load((CONFIG / "prometheus/prometheus.yaml").read_text())
    config["global"]["evaluation_interval"] = "1s"
    config["otlp"]["convert_histograms_to_nhcb"] = native
    address = httpx.URL(peer)
    targets = [{"targets": [f"{address.host}:{address.port}"]}]
    config["alerting"] = {"alertmanagers": [{"path_prefix": address.path, "static_configs": targets}]}
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    return folder / "prometheus.yaml"


def answer(world: World, path: str) -> Any:
    return world.service.get(path).raise_for_status().json()


def check_requests(found: dict[str, Any], expected: Sequence[Request], *, native: bool) -> None:
    """Within one percent; percentiles within the bucket they are in."""
    errors = sum(request.status >= 500 for request in expected)
    assert found["requests_recorded"] == pytest.approx(len(expected), rel=0.01)
    assert found["error_count"] == pytest.approx(errors, rel=0.01)
    assert found["client_error_count"] == pytest.approx(sum(r.status == 404 for r in expected), rel=0.01)
    assert found["error_rate"] == pytest.approx(100 * errors / len(expected), rel=0.01)
    assert found["avg_response_time"] == pytest.approx(sum(r.seconds for r in expected) / len(expected), rel=0.01)
    for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        low, high = bounds(quantile(expected, q), native=native)
        assert low * 0.99 <= found[f"{name}_response_time"] <= high * 1.01, name


def bounds(seconds: float, *, native: bool) -> tuple[float, float]:
    """The bucket of a duration."""
    if native:
        index = math.ceil(math.log2(seconds) * 2**SCALE) - 1
        return 2 ** (index / 2**SCALE), 2 ** ((index + 1) / 2**SCALE)
    edges = (0.0, *c.REQUEST_DURATIONS.bounds)
    place = next(i for i, edge in enumerate(edges) if seconds <= edge)
    return edges[place - 1], edges[place]


def test_metrics_are_what_all_instances_sent(world: World) -> None:
    found, native = answer(world, "/api/health/metrics"), world.native
    assert (found["scope"], found.get("incomplete")) == ("service", None)
    check_requests(found, world.sent.of(range(STEPS)), native=native)
    candidates = [world.sent.of(steps) for steps in world.sent.windows(time.time())]
    nearest = min(candidates, key=lambda one: abs(len(one) - found["window"]["requests_recorded"]))
    check_requests(found["window"], nearest, native=native)
    assert found["requests_per_second"] == pytest.approx(found["window"]["requests_recorded"] / 300, rel=0.01)


def test_each_route_is_what_was_sent_to_it(world: World) -> None:
    found = eventually(
        lambda: (
            (found := answer(world, "/api/health/diagnostics"))["scope"] == "service"
            and found["application"]["counters"]
            and found
        ),
        "it counts",
    )
    expected = Counter(request.route or c.UNMATCHED_ROUTE for request in world.sent.of(range(STEPS)))
    counted = {route: found["endpoints"][route]["call_count"] for route in expected}
    assert counted == {route: pytest.approx(count, rel=0.01) for route, count in expected.items()}
    pay = world.sent.of(range(STEPS), "/pay")
    figures = found["endpoints"]["/pay"]
    assert figures["error_count"] == pytest.approx(sum(r.status == 500 for r in pay), rel=0.01)
    assert figures["statuses"].keys() == {"2xx", "5xx"}
    assert figures["methods"] == {"GET": figures["call_count"]}
    low, high = bounds(quantile(pay, 0.95), native=world.native)
    assert low * 0.99 <= figures["p95_time"] <= high * 1.01
    (placed,) = found["application"]["counters"]
    assert (placed["name"], placed["total"]) == ("orders.placed", pytest.approx(world.sent.placed, rel=0.01))


def check_database(found: dict[str, Any], sent: Sent) -> None:
    """What each route does with the database, of all instances; details are of the process that answers: none."""
    assert (found["details_scope"], found["repeated"], found["collections"]) == ("instance", [], [])
    routes = {one["name"]: one for one in found["routes"]}
    assert routes.keys() == sent.commands.keys()
    assert [one["kind"] for one in found["routes"] if one["name"] == "import"] == ["operation"]
    runs = {"GET /pay": len(sent.of(range(STEPS), "/pay")), "import": sent.commands["import"] / 30}
    for name, route in routes.items():
        requests = runs.get(name, len(sent.of(range(STEPS), "")))
        assert route["requests"] == pytest.approx(requests, rel=0.01), name
        assert route["commands"] == pytest.approx(sent.commands[name], rel=0.01), name
        each = sent.commands[name] / requests
        assert route["commands_per_request"]["avg"] == pytest.approx(each, rel=0.01), name
        waited = sent.waited[name] / 1000 / requests
        assert route["database_time"]["avg"] == pytest.approx(waited, rel=0.01), name
        assert 0 < route["window"]["requests"] < route["requests"], name
    share = 100 * sent.waited["import"] / 1000 / (0.5 * runs["import"])
    assert routes["import"]["share_percent"] == pytest.approx(share, rel=0.01)


def check_errors(found: dict[str, Any], sent: Sent) -> None:
    """The failures of all instances, of which the process that answers has seen none."""
    assert (found["scope"], found["details_scope"]) == ("service", "instance")
    (error,) = found["errors"]
    failed = sum(request.status == 500 for request in sent.of(range(STEPS), "/pay"))
    assert (error["type"], error["route"]) == ("HTTP 500", "GET /pay")
    assert error["count"] == pytest.approx(failed, rel=0.01)
    assert (error["stack"], error["first_seen"], error["last_seen"], error["new"]) == ("", None, None, False)


def test_what_routes_do_with_the_database_is_what_all_instances_sent(world: World) -> None:
    found = answer(world, "/api/health/diagnostics")
    assert found["scope"] == "service"
    check_database(found["database"]["routes"], world.sent)


def test_errors_are_those_of_all_instances(world: World) -> None:
    check_errors(answer(world, "/api/health/errors"), world.sent)


def test_every_instance_is_listed_that_has_not_ended(world: World) -> None:
    world.export(time.time())
    names = {instance.name for instance in world.running}
    listed = eventually(
        lambda: (
            (found := answer(world, "/api/health/detailed")["instances"]) and len(found) == len(names) + 1 and found
        ),
        "all that run are listed, and the one that answers",
    )
    assert {one["instance_id"] for one in listed[1:]} == names
    other = next(one for one in listed if one["instance_id"] == "sim-30")
    assert (other["host"], other["version"], other["status"]) == ("host-7", "1.2", "healthy")
    assert other["database"]["status"] == "healthy"
    assert other["uptime_seconds"] == pytest.approx(3000, abs=600)
    assert other["requests_per_second"] == pytest.approx(10 / STEP, rel=0.2)


def test_the_past_is_what_was_sent_in_each_step(world: World) -> None:
    found = answer(world, "/api/health/series?metric=requests&metric=error_rate&metric=p95&range=1h&step=60")
    assert "incomplete" not in found
    columns = {one["metric"]: one["values"] for one in found["series"]}
    counted = sum(value * 60 for value in columns["requests"] if value)
    assert counted == pytest.approx(nearest(counted, lambda steps: len(world.sent.of(steps))), rel=0.01)
    errors = [value for value in columns["error_rate"] if value]
    assert sum(errors) / len(errors) == pytest.approx(5, rel=0.15)
    low, high = bounds(quantile(world.sent.of(range(STEPS)), 0.95), native=world.native)
    assert all(low * 0.8 <= value <= high * 1.2 for value in columns["p95"] if value)
    pay = answer(world, "/api/health/series?metric=requests&endpoint=/pay&range=1h&step=60")
    counted = sum(point["value"] * 60 for point in pay["points"] if point["value"])
    assert counted == pytest.approx(nearest(counted, lambda steps: len(world.sent.of(steps, "/pay"))), rel=0.01)
    placed = answer(world, "/api/health/series?metric=orders.placed&range=1h&step=60")["points"]
    counted = sum(point["value"] * 60 for point in placed if point["value"])
    assert counted == pytest.approx(nearest(counted, lambda steps: world.sent.placed * len(steps) / STEPS), rel=0.02)


def nearest(counted: float, sent: Callable[[range], float]) -> float:
    """What was sent in the steps that are over: the last export, or none, is in one that is not, at each answer."""
    return min(map(sent, (range(STEPS - 1), range(STEPS))), key=lambda one: abs(counted - one))


def test_the_past_is_the_first_thing_that_a_process_is_asked(world: World, tmp_path: Path) -> None:
    with process(tmp_path, world.prometheus) as service:
        answers = [
            service.get(f"/api/health/series?metric=requests&range=1h&step=60{endpoint}").raise_for_status().json()
            for endpoint in ("&endpoint=/pay", "")
        ]
    assert all("incomplete" not in each for each in answers)
    pay, total = (sum(point["value"] * 60 for point in each["points"] if point["value"]) for each in answers)
    assert total > pay > 0


@pytest.mark.parametrize("world", ["native"], indirect=True)
def test_doctor_finds_it_in_order(world: World) -> None:
    environment = {**os.environ, "OTEL_MONITORING_PROMETHEUS_URL": world.prometheus.url}
    command = [sys.executable, "-m", "otel_monitoring.cli", "doctor", "--json"]

    def levels() -> set[str]:
        shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment).stdout
        found = {one["check"]: one["level"] for one in json.loads(shown)["findings"]}
        return {found[name] for name in ("Prometheus rules", "Alertmanager")}

    # Prometheus has just started: it evaluates rules and looks for its Alertmanagers a moment later.
    eventually(lambda: levels() == {"ok"}, "doctor finds everything")


def test_an_incident_is_told_once_and_by_alertmanager(world: World) -> None:
    fires = eventually(
        lambda: [alert for alert in answer(world, "/api/alerts/firing") if alert["rule"] == "high_error_rate"],
        "the exported rule fires",
    )
    assert fires[0]["type"] == "high_error_rate"
    assert 4 < fires[0]["value"] < 6
    eventually(lambda: world.told("HIGH_ERROR_RATE"), "people are told")
    for name in ("high_error_rate", "api_timeout"):
        (rule,) = [rule for rule in answer(world, "/api/alerts/rules") if rule["name"] == name]
        assert rule["values"], rule
    evaluated = world.prometheus.query("otel_monitoring:high_error_rate")
    assert len(evaluated) == 1
    assert world.told("HIGH_ERROR_RATE") == 1
    (recorded,) = eventually(lambda: recorded_of(world, "high_error_rate"), "the history has it")
    assert (recorded["status"], recorded["details"]["evaluated_by"]) == ("firing", "Prometheus")
    assert recorded["incident"] == fires[0]["incident"]
    assert not recorded.get("channels"), "the process has told nobody"
    world.service.client.post("/alert").raise_for_status()
    eventually(lambda: [e for e in answer(world, "/api/alerts/history") if e["type"] == "delivery_issue"], "its own")


def test_a_mute_holds_as_a_silence(world: World) -> None:
    muted = world.service.client.post(
        "/api/alerts/mutes", json={"type": "database_down", "duration_seconds": 600, "author": "ana", "reason": "known"}
    )
    # False while Prometheus has not said which Alertmanagers it has: then the silence follows.
    assert muted.raise_for_status().json()["silenced"] in (True, False)
    silences = eventually(lambda: httpx.get(f"{world.alertmanager}/api/v2/silences").json(), "it is a silence")
    assert [(one["createdBy"], one["comment"], one["status"]["state"]) for one in silences] == [
        ("ana", "known", "active")
    ]
    for instance in world.running:
        instance.gauges[c.DATABASE_UP, "1"] = 0.0
    world.export(time.time())
    (fires,) = eventually(
        lambda: [alert for alert in answer(world, "/api/alerts/firing") if alert["rule"] == "database_down"],
        "it fires all the same",
    )
    assert fires["muted"] is True

    def suppressed() -> list[Any]:
        found = httpx.get(f"{world.alertmanager}/api/v2/alerts", params={"filter": 'alertname="DATABASE_DOWN"'})
        return [alert for alert in found.json() if alert["status"]["state"] == "suppressed"]

    eventually(suppressed, "Alertmanager has it, and tells nobody")
    assert world.told("DATABASE_DOWN") == 0
    (mute,) = answer(world, "/api/alerts/summary")["mutes"]
    assert (mute["type"], mute["author"], mute["reason"]) == ("database_down", "ana", "known")
    assert world.service.client.delete("/api/alerts/mutes/database_down").status_code == 204
    assert answer(world, "/api/alerts/summary")["mutes"] == []
    eventually(lambda: world.told("DATABASE_DOWN"), "it is told when the mute has ended")


def test_a_mute_holds_at_once_in_another_process_which_can_end_it(world: World, tmp_path: Path) -> None:
    """The other one asks for the silences every five minutes; both share a store."""
    state = {"OTEL_MONITORING_STATE_DIR": str(world.service.folder / "state"), "ALERTMANAGER_URL": world.alertmanager}
    with process(tmp_path, world.prometheus, interval=300, **state) as other:
        body = {"type": "delivery_issue", "duration_seconds": 600}
        world.service.client.post("/api/alerts/mutes", json=body).raise_for_status()
        eventually(lambda: silences(world), "it is a silence")
        assert list(other.get("/api/alerts/summary").json()["muted_alerts"]) == ["delivery_issue"]
        assert other.client.delete("/api/alerts/mutes/delivery_issue").status_code == 204
        assert silences(world) == []
        eventually(lambda: answer(world, "/api/alerts/summary")["mutes"] == [], "it ends everywhere")


def recorded_of(world: World, kind: str) -> list[Any]:
    """The events of a type in the history."""
    return [event for event in answer(world, "/api/alerts/history") if event["type"] == kind]


def silences(world: World, state: str = "active") -> list[Any]:
    """Those of this service that Alertmanager has."""
    found = httpx.get(f"{world.alertmanager}/api/v2/silences", params={"filter": f'service="{SERVICE}"'}).json()
    return [one for one in found if one["status"]["state"] == state]


@pytest.mark.parametrize("world", ["native"], indirect=True)
@pytest.mark.parametrize(("ahead", "state"), [(-60, "active"), (3600, "pending")])
def test_a_planned_window_is_a_silence_that_ends_with_it_and_goes_when_it_is_deleted(
    world: World, ahead: int, state: str
) -> None:
    opens, closes = (datetime.fromtimestamp(round(time.time()) + ahead + more, timezone.utc) for more in (0, 7200))
    window = {"from": opens.isoformat(), "to": closes.isoformat(), "type": "api_timeout", "author": "ana"}
    planned = world.service.client.post("/api/alerts/maintenance", json={**window, "reason": "deploy"})
    assert planned.status_code == 201, planned.text
    (silence,) = eventually(lambda: silences(world, state), "Alertmanager has it")
    matchers = {one["name"]: one["value"] for one in silence["matchers"]}
    assert matchers == {"service": SERVICE, "alert_type": "api_timeout"}
    assert datetime.fromisoformat(silence["endsAt"].replace("Z", "+00:00")) == closes
    assert (silence["createdBy"], silence["comment"]) == ("ana", f"deploy ({planned.json()['id']})")
    assert answer(world, "/api/alerts/mutes") == [], "it is no mute that somebody would end"
    assert world.service.client.delete(f"/api/alerts/maintenance/{planned.json()['id']}").status_code == 204
    assert eventually(lambda: not silences(world, state), "it goes with the window")


@pytest.mark.parametrize("world", ["native"], indirect=True)
def test_who_acknowledges_silences_the_alert_until_it_ends_or_he_takes_it_back(world: World) -> None:
    (fires,) = eventually(
        lambda: [one for one in answer(world, "/api/alerts/firing") if one["rule"] == "high_error_rate"], "it fires"
    )
    path, by = f"/api/alerts/{fires['incident']}/acknowledge", {"author": "ana", "reason": "on it"}
    assert world.service.client.post(path, json=by).status_code == 201
    (silence,) = eventually(lambda: silences(world), "Alertmanager tells it no more")
    assert (silence["createdBy"], silence["comment"]) == ("ana", f"on it (acknowledged-{fires['incident']})")
    assert {one["name"]: one["value"] for one in silence["matchers"]} == {
        "service": SERVICE,
        "rule": "high_error_rate",
    }
    (fires,) = [one for one in answer(world, "/api/alerts/firing") if one["rule"] == "high_error_rate"]
    assert (fires["acknowledged"]["author"], fires["muted"]) == ("ana", False)
    assert answer(world, "/api/alerts/mutes") == []
    assert world.service.client.delete(path).status_code == 204
    assert eventually(lambda: not silences(world), "it is told again")


@pytest.mark.parametrize("world", ["native"], indirect=True)
def test_whose_errors_an_answer_has_is_said(world: World) -> None:
    performance = answer(world, "/api/health/metrics")
    assert (performance["scope"], performance["last_error_scope"]) == ("service", "instance")
    errors = answer(world, "/api/health/errors")
    assert (errors["scope"], errors["details_scope"]) == ("service", "instance")


@pytest.mark.parametrize("world", ["native"], indirect=True)
def test_the_command_line_says_the_same(world: World) -> None:
    command = [sys.executable, "-m", "otel_monitoring.cli", "check", world.service.url, "--json"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
    assert json.loads(shown), shown


def test_where_it_does_not_answer_the_process_answers_for_itself_and_says_so(world: World) -> None:
    """The last test: Prometheus is killed, and comes back."""
    running, restart = world.restart
    running.close()
    alone = eventually(
        lambda: (found := answer(world, "/api/health/metrics")).get("incomplete") and found, "it answers for itself"
    )
    assert alone["scope"] == "instance"
    assert alone["incomplete"].startswith("Prometheus: ")
    assert alone["requests_recorded"] < 10
    diagnostics = answer(world, "/api/health/diagnostics")
    assert len(diagnostics["instances"]) == 1
    assert diagnostics["alerting"]["engine"]["problem"] == diagnostics["incomplete"]
    eventually(lambda: answer(world, "/api/alerts/firing") == [], "what fires is not known any more")
    restart()
    again = eventually(
        lambda: (found := answer(world, "/api/health/metrics"))["scope"] == "service" and found, "it asks again"
    )
    check_requests(again, world.sent.of(range(STEPS)), native=world.native)
    assert world.service.output.count("this process answers for itself") == 1
