"""A real VictoriaMetrics answers for a service: the same questions, the same answers."""

import time
from collections.abc import Iterator

import pytest

from otel_monitoring import semconv as c
from tests.integration.processes import Service
from tests.integration.simulated_instances import Instance
from tests.integration.test_prometheus import (
    SERVICE,
    STEPS,
    Sent,
    check_database,
    check_errors,
    check_requests,
    process,
    traffic,
)
from tests.integration.victoriametrics_server import VictoriaMetrics, victoriametrics_server
from tests.waiting import eventually

pytestmark = pytest.mark.integration

INSTANCES = 20


@pytest.fixture(scope="module", params=["explicit", "exponential"])
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[VictoriaMetrics, Sent, Service]]:
    folder = tmp_path_factory.mktemp("victoriametrics")
    with victoriametrics_server(folder) as server:
        start, explicit = time.time() - 3000, request.param == "explicit"
        instances = [Instance(f"sim-{i}", SERVICE, start, explicit=explicit) for i in range(INSTANCES)]
        sent = traffic(server, instances)
        eventually(lambda: server.query(f'process_uptime_seconds{{job="{SERVICE}"}}'), "it has what was sent")
        with process(folder, server) as service:
            service.client.post("/place").raise_for_status()
            yield server, sent, service


@pytest.mark.parametrize("world", ["explicit"], indirect=True)
def test_its_answers_are_what_was_sent(world: tuple[VictoriaMetrics, Sent, Service]) -> None:
    _, sent, service = world
    found = service.get("/api/health/diagnostics").raise_for_status().json()
    assert (found["scope"], found.get("incomplete")) == ("service", None)
    check_requests(found["performance"], sent.of(range(STEPS)), native=False)
    pay = found["endpoints"]["/pay"]
    assert pay["call_count"] == pytest.approx(len(sent.of(range(STEPS), "/pay")), rel=0.01)
    assert pay["statuses"].keys() == {"2xx", "5xx"}
    assert found["endpoints"][c.UNMATCHED_ROUTE]["call_count"] == pytest.approx(
        len(sent.of(range(STEPS), "")), rel=0.01
    )
    names = {one["instance_id"] for one in found["instances"][1:]}
    assert names <= {f"sim-{i}" for i in range(INSTANCES)}
    assert len(names) >= INSTANCES * 9 // 10
    (placed,) = found["application"]["counters"]
    assert (placed["name"], placed["total"]) == ("orders.placed", pytest.approx(sent.placed, rel=0.01))
    check_database(found["database"]["routes"], sent)
    check_errors(service.get("/api/health/errors").raise_for_status().json(), sent)


@pytest.mark.parametrize("world", ["explicit"], indirect=True)
def test_its_past_is_what_was_sent(world: tuple[VictoriaMetrics, Sent, Service]) -> None:
    _, sent, service = world
    found = service.get("/api/health/series?metric=requests&metric=p95&range=15m&step=60").raise_for_status().json()
    assert "incomplete" not in found
    columns = {one["metric"]: one["values"] for one in found["series"]}
    counted = sum(value * 60 for value in columns["requests"] if value)
    over = min((range(STEPS - 1), range(STEPS)), key=lambda steps: abs(counted - len(sent.of(steps))))
    assert counted == pytest.approx(len(sent.of(over)), rel=0.02)
    assert any(columns["p95"])


@pytest.mark.parametrize("world", ["explicit"], indirect=True)
def test_it_is_said_that_mutes_need_the_url_of_an_alertmanager(
    world: tuple[VictoriaMetrics, Sent, Service],
) -> None:
    _, _, service = world
    engine = service.get("/api/health/diagnostics").raise_for_status().json()["alerting"]["engine"]
    assert "ALERTMANAGER_URL" in engine["mutes_problem"], engine
    assert "export prometheus" in engine["problem"], engine


@pytest.mark.parametrize("world", ["exponential"], indirect=True)
def test_its_own_form_of_exponential_histograms_is_refused_with_what_to_do(
    world: tuple[VictoriaMetrics, Sent, Service],
) -> None:
    _, _, service = world
    found = service.get("/api/health/metrics").raise_for_status().json()
    assert found["scope"] == "instance"
    assert "explicit_bucket_histogram" in found["incomplete"]
