import json
import sys
from importlib.util import find_spec

import pytest

from otel_monitoring.alerts.evaluation.worker_report import WorkerReport
from tests.benchmarks import alerts, setups
from tests.benchmarks.application import calls, make_app
from tests.benchmarks.client import Client
from tests.benchmarks.figures import Goal, exact_quantile, markdown, paired, spread
from tests.benchmarks.operations import Host, proof, requests
from tests.benchmarks.request_cost import _goals, growth_goals
from tests.benchmarks.variants import BY_NAME, PROJECT, VARIANTS

pytestmark = pytest.mark.skipif(sys.platform != "linux" and find_spec("resource") is None, reason="needs POSIX")


def test_a_pair_is_compared_round_by_round() -> None:
    # The second round was noisy for both: the pair is not.
    assert paired([30, 300, 33], [20, 200, 20]) == 1.5
    assert paired([30, 300, 33], [20, 200, 20], "difference") == 13


def test_rounds_without_a_partner_are_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired([1.0, 2.0], [1.0])


def test_spread_is_half_the_interquartile_range() -> None:
    assert spread([1, 2, 3, 4, 100]) == 1
    assert spread([7]) == 0


@pytest.mark.parametrize(("q", "value"), [(0, 1.0), (0.5, 2.5), (0.99, 3.97), (1, 4.0)])
def test_exact_quantile(q: float, value: float) -> None:
    assert exact_quantile([1, 2, 3, 4], q) == pytest.approx(value)


def test_goals_say_whether_they_are_reached() -> None:
    assert Goal("a", 1.5, 1.5, "x").cells() == ["a", "1.5 x", "<= 1.5 x", "yes"]
    assert Goal("b", 20.1, 20, "MiB").cells() == ["b", "20.1 MiB", "<= 20 MiB", "**no**"]


def test_markdown() -> None:
    assert markdown(("a", "b"), [["x", "1"]]) == "| a | b |\n|---|---:|\n| x | 1 |"


def test_goals_of_the_request_cost() -> None:
    rounds = {
        "bare": [100.0],
        "ours_embedded": [150.0],
        "prometheus": [160.0],
        "ours_traces": [230.0],
        "native_lean": [200.0],
        "contrib": [460.0],
    }
    goals = {goal.what: goal for goal in _goals({40: rounds})}
    assert goals["ours_embedded to prometheus, 40 routes"].reached
    assert goals["ours_traces to native_lean, 40 routes"].reached
    assert goals["ours_traces to contrib, 40 routes"].reached
    worse = {**rounds, "ours_traces": [231.0], "ours_embedded": [161.0]}
    assert not any(goal.reached for goal in _goals({40: worse}))


def test_growth_with_routes_is_measured_on_what_is_added() -> None:
    added = {
        "bare": [0.0, 0.0],
        "native_lean": [90.0, 95.0],
        "ours_embedded": [50.0, 59.0],
        "ours_traces": [100.0, 120.0],
    }
    assert [(goal.limit, goal.reached) for goal in growth_goals(added)] == [(60.0, True), (115.0, False)]


def test_every_variant_can_be_set_up() -> None:
    for variant in VARIANTS:
        assert callable(getattr(setups, variant.name)), variant.name
        assert BY_NAME[variant.name] is variant
    assert {v.name for v in VARIANTS if v.environment == PROJECT} >= {"bare", "native_lean", "contrib", "ours_traces"}


@pytest.mark.anyio
async def test_every_route_of_the_application_is_called() -> None:
    app = make_app(10)
    client = Client(app)
    await client.start()
    assert len(calls(10)) == 10
    assert await client.statuses(calls(10), 10) == {200, 201}
    status, body = await client.get("/empty")
    assert (status, json.loads(body)) == (200, {})
    await client.stop()


@pytest.mark.anyio
async def test_what_a_request_costs_is_measured() -> None:
    instrumented = setups.bare(10)
    client = Client(instrumented.app)
    await client.start()
    host = Host(client, instrumented, 10)
    cost = await requests(host, count=20)
    assert 0 < cost["thread"] <= cost["process"] < 1
    assert await proof(host) == ""
    with pytest.raises(RuntimeError, match="404"):
        await requests(host, count=1, path="/nowhere")
    await client.stop()


@pytest.mark.anyio
async def test_a_variant_that_measures_nothing_is_noticed() -> None:
    instrumented = setups.Instrumented(make_app(10), proof=("/empty", "request_count"))
    client = Client(instrumented.app)
    await client.start()
    assert "/empty answers 200" in await proof(Host(client, instrumented, 10))
    await client.stop()


@pytest.mark.parametrize(("slow", "expected"), [(0, 0), (1, 4)])
def test_what_is_evaluated_is_proved(slow: int, expected: int) -> None:
    assert len(alerts.rules()) == alerts.RULES
    report = WorkerReport(alerts.windows(slow=slow)())
    assert len(alerts.costs(iter([{"a": report}] * 3), expected)) == 2
    with pytest.raises(RuntimeError, match="alerts instead of"):
        alerts.costs(iter([{"a": report}]), expected + 1)
