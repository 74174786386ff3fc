"""`Server`: headers, TLS and time limit, and errors that say nothing secret."""

import json
from pathlib import Path
from threading import Event
from urllib.parse import parse_qs

import pytest

from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import ConfigurationError, PrometheusError
from otel_monitoring.prometheus.client import Connection, Server, decoded
from tests.http_server import Answer, HttpServer, Request
from tests.ports import free_port
from tests.waiting import PATIENCE

pytestmark = pytest.mark.anyio

VECTOR = {"data": {"resultType": "vector", "result": [{"metric": {"job": "orders"}, "value": [1.0, "7"]}]}}


def settings(url: str, **more: object) -> Settings:
    return Settings.load(prometheus_url=url, **more)


async def asked(url: str, **more: object) -> object:
    return await Server.of_prometheus(settings(url, **more)).ask(lambda connection: connection.query("up"))


async def test_the_question_has_the_headers_and_the_login_of_the_settings() -> None:
    with HttpServer(lambda _: Answer(body=json.dumps(VECTOR).encode())) as server:
        url = server.url.replace("//", "//ana:canary@") + "/prometheus/"
        found = await asked(url, prometheus_headers="X-Scope-OrgID=team,X-Other=a%20b")
    assert found == VECTOR["data"]["result"]
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/prometheus/api/v1/query")
    assert request.headers["x-scope-orgid"] == "team"
    assert request.headers["x-other"] == "a b"
    assert request.headers["authorization"].startswith("Basic ")
    assert parse_qs(request.body.decode())["query"] == ["up"]


async def test_what_only_a_part_of_the_stores_says_is_no_answer() -> None:
    """By default Thanos and VictoriaMetrics' cluster leave out what they cannot reach: totals would go back."""

    async def ask(connection: Connection) -> None:
        await connection.query("up")
        await connection.query_range("up", 0, 60, 15)

    with HttpServer(lambda _: Answer(body=json.dumps(VECTOR).encode())) as server:
        await Server.of_prometheus(settings(server.url)).ask(ask)
    for request in server.requests:
        form = parse_qs(request.body.decode())
        assert (form["partial_response"], form["deny_partial_response"]) == (["false"], ["1"])
    with (
        HttpServer(lambda _: Answer(body=json.dumps({**VECTOR, "isPartial": True}).encode())) as server,
        pytest.raises(PrometheusError, match="a part of its stores did not answer"),
    ):
        await asked(server.url)


def test_an_alertmanager_at_the_same_address_gets_the_same_headers_and_no_other_one_does() -> None:
    server = Server.of_prometheus(settings("http://mimir:8080/prometheus", prometheus_headers="X-Scope-OrgID=team"))
    assert server.beside("Alertmanager", "http://mimir:8080/alertmanager").headers == {"x-scope-orgid": "team"}
    for other in ("https://mimir:8080/am", "http://mimir:9093", "http://elsewhere:8080", "http://mimir"):
        assert server.beside("Alertmanager", other).headers == {}


@pytest.mark.parametrize("result", [[1.5, "7.25"], [{"metric": {}, "value": [1.5, "7.25"]}]])
async def test_the_clock_is_a_scalar_or_with_victoriametrics_a_vector(result: object) -> None:
    with HttpServer(lambda _: Answer(body=json.dumps({"data": {"result": result}}).encode())) as server:
        assert await Server.of_prometheus(settings(server.url)).ask(lambda connection: connection.now()) == 7.25


@pytest.mark.parametrize("result", [[], [1.5, "NaN"], [{"metric": {}, "value": [1.5, "+Inf"]}], None, "late"])
async def test_what_is_no_time_is_an_error(result: object) -> None:
    with (
        HttpServer(lambda _: Answer(body=json.dumps({"data": {"result": result}}).encode())) as server,
        pytest.raises(PrometheusError, match="another form"),
    ):
        await Server.of_prometheus(settings(server.url)).ask(lambda connection: connection.now())


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Answer(401, b"who is canary?"), "Prometheus answered 401"),
        (Answer(400, b'{"errorType": "bad_data", "error": "canary"}'), "Prometheus answered 400 (bad_data)"),
        (Answer(body=b"<html>canary"), "no JSON"),
        (Answer(body=b'{"data": "canary"}'), "another form"),
        (Answer(body=b'{"data": {"result": ["canary"]}}'), "another form"),
        (Answer(302, headers={"Location": "http://127.0.0.1:1/canary"}), "answered 302"),
    ],
)
async def test_an_unusable_answer_is_an_error_that_quotes_nothing(answer: Answer, why: str) -> None:
    with HttpServer(lambda _: answer) as server, pytest.raises(PrometheusError) as caught:
        await asked(server.url.replace("//", "//ana:canary@"))
    assert why in str(caught.value)
    assert "canary" not in str(caught.value)


SAMPLES = [{"metric": {"http_route": f"/{i}", "le": "+Inf"}, "value": [i, f'"result":[{i}']} for i in range(5000)]
ANSWER = {"status": "success", "data": {"resultType": "vector", "result": SAMPLES}, "warnings": ["late"]}


@pytest.mark.parametrize(
    "answer", [ANSWER, {**ANSWER, "data": {"result": []}}, {"result": SAMPLES}, SAMPLES, {"data": {"a": ANSWER}}]
)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_a_long_answer_is_read_as_it_is_written(answer: object, separators: tuple[str, str]) -> None:
    text = json.dumps(answer, separators=separators)
    assert decoded(text) == answer
    for broken in (text[:-1], text[: len(text) // 2], f"{text}]", text.replace("}", "", 1)):
        with pytest.raises(ValueError, match=r"\(char \d+\)"):
            decoded(broken)


async def test_nobody_waits_longer_than_the_time_limit() -> None:
    ends = Event()

    def hang(_: Request) -> Answer:
        ends.wait(PATIENCE)
        return Answer()

    with HttpServer(hang) as server, pytest.raises(PrometheusError, match=r"no answer within 0\.2 s"):
        await asked(server.url, prometheus_timeout=0.2)
    ends.set()


async def test_a_server_that_is_not_there_is_an_error() -> None:
    with pytest.raises(PrometheusError, match=r"^Prometheus: "):
        await asked(f"http://127.0.0.1:{free_port()}")


def test_what_is_secret_is_not_shown() -> None:
    known = settings("https://ana:canary@metrics.example.com", prometheus_headers="Authorization=Bearer canary")
    assert "canary" not in repr(known)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"prometheus_url": "metrics:9090"}, "OTEL_MONITORING_PROMETHEUS_URL: it must be a URL"),
        ({"prometheus_headers": "canary"}, "OTEL_MONITORING_PROMETHEUS_HEADERS: it must be name=value pairs"),
        (
            {"prometheus_certificate": "/nowhere/ca.pem"},
            "OTEL_MONITORING_PROMETHEUS_CERTIFICATE: there is no such file",
        ),
        ({"prometheus_client_key": __file__}, "OTEL_MONITORING_PROMETHEUS_CLIENT_KEY: it is the key of"),
        ({"prometheus_timeout": 0}, "OTEL_MONITORING_PROMETHEUS_TIMEOUT: "),
    ],
)
def test_a_wrong_setting_stops_the_start(given: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(**given)
    assert why in str(caught.value)
    assert "canary" not in str(caught.value)


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("canary")
    known = settings("https://127.0.0.1:1", prometheus_certificate=str(tmp_path / "ca.pem"))
    with pytest.raises(ConfigurationError, match="OTEL_MONITORING_PROMETHEUS_CERTIFICATE"):
        Server.of_prometheus(known)


def test_a_host_that_nothing_is_sent_to_is_named() -> None:
    with pytest.raises(ConfigurationError, match="OTEL_MONITORING_PROMETHEUS_URL: its host") as caught:
        Server.of_prometheus(settings("http://ana:canary@①②⑦.0.0.1/"))
    assert "canary" not in str(caught.value)
