import json
import re
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from itertools import repeat
from math import inf

import pytest

from otel_monitoring.alerts.evaluation.worker_report import WorkerReport
from otel_monitoring.testing import ManualClock
from tests.benchmarks import alerts, request_cost, setups
from tests.benchmarks.__main__ import SECTIONS
from tests.benchmarks.application import calls, make_app
from tests.benchmarks.calibration import slowness
from tests.benchmarks.client import Client
from tests.benchmarks.documentation import page_with, sentence
from tests.benchmarks.figures import Figure, added, added_ratio, exact_quantile, markdown, paired, spread, undisturbed
from tests.benchmarks.goals import GOALS, Goal, Unit, section_of
from tests.benchmarks.operations import Host, proof, requests
from tests.benchmarks.pace import Rounds
from tests.benchmarks.report import Report
from tests.benchmarks.variants import BY_NAME, PROJECT, VARIANTS
from tests.pages import page, rows

pytestmark = pytest.mark.skipif(sys.platform != "linux" and find_spec("resource") is None, reason="needs POSIX")


def test_a_pair_is_compared_round_by_round() -> None:
    # The second round was noisy for both: the pair is not.
    assert paired([30, 300, 33], [20, 200, 20]) == 1.5
    assert added([30, 300, 33], [20, 200, 20]) == 13


def test_what_is_added_is_compared() -> None:
    assert added_ratio([110, 220, 110], [140, 140, 900], [100, 200, 100]) == pytest.approx(10 / 40)
    assert added_ratio([110], [99], [100]) == inf


def test_a_round_that_was_disturbed_does_not_count() -> None:
    assert undisturbed([30, 31, 300] * 7) == 30
    assert added([45, 46, 450] * 7, [30, 31, 30] * 7) == 15


@pytest.mark.parametrize(("seconds", "expected"), [(0.125, 20), (1.0, 5), (30.0, 3)])
def test_a_slow_machine_makes_fewer_rounds(seconds: float, expected: int) -> None:
    clock = ManualClock(0.0)
    made = 0
    for _ in Rounds(20, least=3, seconds=5.0, clock=clock):
        clock.advance(seconds)
        made += 1
    assert made == expected


def test_rounds_without_a_time_are_all_made() -> None:
    assert list(Rounds(3)) == [0, 1, 2]
    assert f"{Rounds(3)} rounds, {Rounds(20, 3, 5.0)} rounds" == "3 rounds, 3 to 20 rounds"


def test_rounds_without_a_partner_are_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired([1.0, 2.0], [1.0])


def test_spread_is_half_the_interquartile_range() -> None:
    assert spread([1, 2, 3, 4, 100]) == 1
    assert spread([7]) == 0


@pytest.mark.parametrize(("q", "value"), [(0, 1.0), (0.5, 2.5), (0.99, 3.97), (1, 4.0)])
def test_exact_quantile(q: float, value: float) -> None:
    assert exact_quantile([1, 2, 3, 4], q) == pytest.approx(value)


@pytest.mark.parametrize(
    ("value", "slowness", "reached", "far"),
    [(45, 1, True, False), (54, 1, False, False), (54.1, 1, False, True), (90, 2, True, False), (30, 0.5, False, True)],
)
def test_time_is_judged_as_it_would_be_on_the_reference_machine(
    value: float, slowness: float, reached: bool, far: bool
) -> None:
    figure = Figure(Goal("a", 45, "µs"), value, slowness=slowness)
    assert (figure.reached, figure.far) == (reached, far)


@pytest.mark.parametrize("unit", ["x", "MiB", "%", "values"])
def test_what_a_slow_machine_does_not_change_is_judged_as_it_is(unit: Unit) -> None:
    assert Figure(Goal("a", 1.5, unit), 1.5, slowness=0.1).reached
    assert Figure(Goal("a", 1.5, unit), 1.81, slowness=10).far


def test_nothing_is_tolerated_where_the_goal_is_nothing() -> None:
    assert not Figure(Goal("a", 0, "values"), 0).far
    assert Figure(Goal("a", 0, "values"), 1).far


def test_a_row_says_what_was_measured_beside_what() -> None:
    ratio = Figure(Goal("a request", 0.3, peer="theirs"), 0.25, ours="+20 µs", peer="+80 µs")
    assert ratio.cells() == ["a request", "+20 µs", "theirs: +80 µs", "0.25 x", "<= 0.3 x", "yes"]
    absolute = Figure(Goal("a start", 150, "ms"), 320, slowness=2)
    assert absolute.cells() == ["a start", "320 ms", "", "160 ms", "<= 150 ms", "**missed**"]


ROWS = {
    "traced.alone": Goal("a call", 3, "µs", "undecorated"),
    "traced.exported": Goal("a span", 1.2, peer="theirs"),
    "start.instrument": Goal("a start", 150, "ms", "bare"),
    "start.check": Goal("a check", 120, "ms"),
    "collector.services": Goal("a Collector", 1.25, peer="a bare one"),
}


def _report(*sections: str, slow: Iterable[float] = repeat(1.0)) -> Report:
    return Report(sections, iter(slow).__next__, ROWS)


def test_a_row_far_from_its_goal_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    report = _report("traced")
    report.section("Traced", "")
    report.figure("traced.alone", 3.5)
    report.figure("traced.exported", 1.5, ours="+60 µs", peer="+40 µs")
    (far,) = report.close()
    assert far.startswith("traced.exported: ")
    printed = capsys.readouterr().out
    assert "| a span | +60 µs | theirs: +40 µs | 1.5 x | <= 1.2 x | **missed** |" in printed
    assert "0 of 2 goals are reached" in printed


def test_a_section_is_judged_by_the_machine_before_and_after_it() -> None:
    report = _report("traced", "start", slow=[1.0, 3.0, 1.0])
    report.section("Start", "")
    report.figure("start.check", 240)
    report.figure("start.instrument", 300)
    report.section("Traced", "")
    report.figure("traced.alone", 6.1)
    report.figure("traced.exported", 1)
    assert report.close() == []


def test_what_nothing_has_measured_is_named_unless_somebody_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    report = _report("start", "collector", "traced")
    report.section("Traced", "")
    report.leave_out("collector", "make collector")
    report.leave_out("traced.exported", "cannot be installed")
    assert [line.partition(":")[0] for line in report.close()] == ["traced.alone", "start.instrument", "start.check"]
    assert "left out: make collector" in capsys.readouterr().out


def _documented() -> dict[tuple[str, str], list[str]]:
    """The rows of the table of goals in the documentation, by what was measured beside whom."""
    table = [cells for cells in rows(page("docs/benchmarks.md")) if len(cells) == 6 and cells[4].startswith("<= ")]
    return {(cells[0], cells[2].partition(":")[0]): cells for cells in table}


def test_the_documentation_quotes_every_row() -> None:
    assert _documented().keys() == {(goal.what, goal.peer) for goal in GOALS.values()}


@pytest.mark.parametrize("goal", GOALS.values(), ids=GOALS)
def test_what_is_quoted_is_what_a_run_prints(goal: Goal) -> None:
    _, measured, beside, judged, limit, reached = _documented()[goal.what, goal.peer]
    if judged == "-":
        assert reached.startswith("left out: ")
        return
    value = float(judged.split()[0].replace(",", ""))
    figure = Figure(goal, value, ours=measured, peer=beside.partition(": ")[2])
    *printed, verdict = figure.cells()
    assert printed == [goal.what, measured, beside, judged, limit]
    if judged != limit.removeprefix("<= "):  # at the limit the digits that are not shown decide
        assert reached == verdict


PAGE = """Before.
<!-- bench: machine -->
An older machine.
<!-- end -->
<!-- bench: goals -->
| what | measured | beside | judged | goal | reached |
|---|---:|---:|---:|---:|---:|
| `traced`, no exporter: added | 9 µs | undecorated | 9 µs | <= 3 µs | **missed** |
| what is measured no more | 1 µs |  | 1 µs | <= 1 µs | yes |
<!-- end -->
<!-- bench: load -->
old
<!-- end -->
After.
"""


def test_a_part_of_a_run_replaces_its_own_rows_in_the_documentation() -> None:
    goals = markdown(("what", "measured", "beside", "judged", "goal", "reached"), [row(1, "start.check")])
    written = page_with(PAGE, {"goals": goals, "requests.40": "nowhere"}, "")
    assert rows(written) == [row(9, "traced.alone"), row(1, "start.check")]
    assert "An older machine." in written
    assert "\nold\n" in written
    assert written.startswith("Before.")
    assert written.endswith("After.\n")


def test_a_whole_run_replaces_every_block_of_the_documentation() -> None:
    goals = markdown(("what", "measured", "beside", "judged", "goal", "reached"), [row(2, "traced.alone")])
    written = page_with(PAGE, {"goals": goals, "load": "new"}, "A machine.")
    assert rows(written) == [row(2, "traced.alone")]
    assert "<!-- bench: machine -->\nA machine.\n<!-- end -->" in written
    assert "<!-- bench: load -->\nnew\n<!-- end -->" in written
    assert page_with(written, {"goals": goals, "load": "new"}, "A machine.") == written


def row(value: float, key: str) -> list[str]:
    return Figure(GOALS[key], value).cells()


def test_the_page_has_a_place_for_each_table_that_is_marked() -> None:
    marks = set(re.findall(r"<!-- bench: ([\w.]+) -->", page("docs/benchmarks.md")))
    assert marks == {"machine", "goals", "requests.40", "requests.300", "mongodb", "mongodb.async", "idle", "load"}


def test_the_readme_tells_what_the_run_would_write() -> None:
    (told,) = (line for line in page("README.md").splitlines() if line.startswith("- **Cheap.**"))
    goal = GOALS["requests.embedded.40"]
    _, measured, beside, *_ = _documented()[goal.what, goal.peer]
    assert told == sentence(measured, beside)


def test_a_figure_needs_a_goal() -> None:
    with pytest.raises(KeyError, match="of nothing"):
        _report().figure("of nothing", 1)


def test_every_goal_has_a_section() -> None:
    assert {section_of(key) for key in GOALS} <= SECTIONS.keys()


@pytest.mark.slow
def test_the_machine_is_calibrated_by_work() -> None:
    assert 0.05 < slowness() < 100


def test_markdown() -> None:
    assert markdown(("a", "b"), [["x", "1"]]) == "| a | b |\n|---|---:|\n| x | 1 |"


def test_the_request_is_judged_by_what_is_added_to_the_bare_one() -> None:
    rounds = {
        "bare": [100.0, 200.0],
        "ours_embedded": [115.0, 215.0],
        "ours_without_rules": [115.0, 215.0],
        "prometheus": [150.0, 250.0],
        "native_spans": [200.0, 300.0],
        "ours_traces": [170.0, 270.0],
        "ours_full": [191.0, 291.0],
    }
    report = Report(["requests"], lambda: 1.0)
    report.section("Requests", "")
    request_cost.judge(report, {40: rounds, 300: {**rounds, "ours_embedded": [116.0, 216.0]}})
    assert [line.partition(":")[0] for line in report.close()] == ["requests.embedded.300"]


def test_the_request_is_not_judged_without_the_peer() -> None:
    rounds = {name: [1.0] for name in ("bare", "ours_embedded", "ours_without_rules")}
    report = Report(["requests"], lambda: 1.0)
    report.section("Requests", "")
    request_cost.judge(report, {40: rounds, 300: rounds})
    assert report.close() == []


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
