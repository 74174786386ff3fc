"""Exported rules of objectives under promtool: Prometheus fires when we do, on the same series."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest

from otel_monitoring.alerts import FasterThan, Rule, Slo
from otel_monitoring.alerts.rules.slo import wanted_sums
from otel_monitoring.export import ExportOptions, prometheus
from otel_monitoring.export.options import Histograms
from otel_monitoring.metrics.buckets import Buckets
from otel_monitoring.metrics.slices.model import Requests, Slice
from otel_monitoring.metrics.slices.sums import RunningSums
from otel_monitoring.metrics.snapshot import Histogram, Snapshot, merged
from otel_monitoring.metrics.window import Window
from tests.integration.prometheus_server import promtool

pytestmark = pytest.mark.integration

MINUTE, HOUR, DAY = 60, 3600, 86_400
SLOS = (
    Slo("orders", objective=99.9),
    Slo("week", objective=99.9, window="7d"),
    Slo("each", objective=99.5, per="endpoint"),
    Slo("fast", objective=99, good=FasterThan(1)),
    Slo("day", objective=99.9, window="24h"),
    Slo("low", objective=90, window="24h"),
)
Counts = tuple[int, int, int]
"""Requests of a step: fast and good, fast and failed, slow and good."""


def route_a(now: int) -> Counts:
    if 3 * HOUR <= now < 3 * HOUR + 2400:
        return 951, 49, 0
    if 6 * HOUR <= now < 6 * HOUR + 2700:
        return 500, 0, 500
    return 1000, 0, 0


def route_b(now: int) -> Counts:
    if now >= 7 * HOUR:
        return (0, 1, 0) if now % 600 == 0 else (0, 0, 0)  # one request in ten minutes, which fails
    return (80, 20, 0) if 4 * HOUR <= now < 4 * HOUR + 3000 else (100, 0, 0)


def slowly(now: int) -> Counts:
    """An objective of 99.9 % for 30 days is missed slowly, for two days."""
    return (9970, 30, 0) if 2 * DAY <= now < 4 * DAY else (10_000, 0, 0)


def down(now: int) -> Counts:
    """An outage of ten minutes. With an objective of 90 % it burns ten times too fast."""
    return (0, 1000, 0) if 1200 <= now < 1800 else (1000, 0, 0)


@dataclass(frozen=True)
class Scenario:
    """Requests, and the rules that burn meanwhile.

    Attributes:
        step: Seconds between two samples, and between evaluations.
        evaluated: Seconds between evaluations of the slower rules.
        end: When it ends.
        routes: The requests of each step, by route.
        burning: The rules.
    """

    step: int
    evaluated: int
    end: int
    routes: Mapping[str, Callable[[int], Counts]]
    burning: Sequence[str]

    @property
    def rules(self) -> list[Rule]:
        return [rule for slo in SLOS for rule in slo.rules() if rule.name in self.burning]

    @property
    def margin(self) -> int:
        """Steps around a change of ours in which Prometheus may differ."""
        return (2 * self.evaluated + self.step) // self.step


HOURS = Scenario(
    MINUTE,
    3 * MINUTE,
    8 * HOUR,
    {"/a": route_a, "/b": route_b},
    ("orders_fast_burn", "orders_medium_burn", "week_fast_burn", "each_fast_burn", "fast_fast_burn"),
)
OUTAGE = Scenario(10, 30, HOUR, {"/a": down}, ("day_fast_burn", "low_fast_burn"))
DAYS = Scenario(15 * MINUTE, 15 * MINUTE, 6 * DAY, {"/a": slowly}, ("orders_slow_burn",))


def slices(of: Scenario) -> Iterator[tuple[int, Slice]]:
    for now in range(of.step, of.end + 1, of.step):
        routes = {route: _requests(counts(now - of.step)) for route, counts in of.routes.items()}
        whole = Requests(
            merged(part.durations for part in routes.values()), sum(part.errors for part in routes.values())
        )
        yield now, Slice(float(of.step), whole, routes)


def _requests(counts: Counts) -> Requests:
    good, failed, slow = counts
    fast = good + failed
    if not fast + slow:
        return Requests()
    # Scale 0: 0.1 s is in bucket -4, (2**-4, 2**-3], and 2 s in bucket 0, (1, 2].
    buckets = Buckets.of(-4, [fast, 0, 0, 0, slow])
    return Requests(Histogram(fast + slow, 0.1 * fast + 2 * slow, 0.1, 2.0 if slow else 0.1, 0, 0, *buckets), failed)


def ours(of: Scenario) -> list[frozenset[tuple[str, str]]]:
    """Which alerts burn, at every step from 0."""
    rules = of.rules
    sums = RunningSums(wanted_sums(rules))
    found: list[frozenset[tuple[str, str]]] = [frozenset()]
    for now, content in slices(of):
        sums.add(now - of.step, now, content)
        window = Window(Snapshot(0, 0), sums.at(now))
        burning = {
            (rule.name, reading.group)
            for rule in rules
            for reading in rule.expression.readings(window)
            if reading.value > rule.threshold
        }
        found.append(frozenset(burning))
    return found


def series(of: Scenario, histograms: str) -> list[dict[str, str]]:
    """The same requests as Prometheus stores them: counters since the start, a series for each status."""
    name, found = "http_server_request_duration_seconds", []
    for route, counts in of.routes.items():
        for status, cause, pick in (("200", "", (0, 2)), ("500", ',error_type="500"', (1, None))):
            fast, slow, samples = 0, 0, []
            for now in range(0, of.end + 1, of.step):
                if now:
                    of_step = counts(now - of.step)
                    fast += of_step[pick[0]]
                    slow += of_step[pick[1]] if pick[1] is not None else 0
                samples.append((fast, slow))
            labels = f'job="orders",http_route="{route}",http_response_status_code="{status}"{cause}'
            found += _classic(name, labels, samples) if histograms == "classic" else [_native(name, labels, samples)]
    return found


def _classic(name: str, labels: str, samples: Sequence[tuple[int, int]]) -> list[dict[str, str]]:
    def written(suffix: str, more: str, values: Iterator[int]) -> dict[str, str]:
        return {"series": f"{name}{suffix}{{{labels}{more}}}", "values": " ".join(map(str, values))}

    return [
        written("_bucket", ',le="1.0"', (fast for fast, _ in samples)),
        written("_bucket", ',le="+Inf"', (fast + slow for fast, slow in samples)),
        written("_count", "", (fast + slow for fast, slow in samples)),
    ]


def _native(name: str, labels: str, samples: Sequence[tuple[int, int]]) -> dict[str, str]:
    values = (
        f"{{{{schema:0 count:{fast + slow} sum:{0.1 * fast + 2 * slow} buckets:[{fast} 0 0 0 {slow}] offset:-3}}}}"
        for fast, slow in samples
    )
    return {"series": f"{name}{{{labels}}}", "values": " ".join(values)}


def settled(of: Scenario, burning: Sequence[frozenset[tuple[str, str]]], rule: str) -> Iterator[tuple[int, bool]]:
    """Every fifth step in which a rule has not changed for a while: whether it burns."""
    steps = of.margin
    names = [any(name == rule for name, _ in found) for found in burning]
    for index in range(steps, len(names) - steps, 5):
        if len(set(names[index - steps : index + steps + 1])) == 1:
            yield index * of.step, names[index]


@pytest.mark.parametrize("of", [OUTAGE, HOURS, DAYS], ids=["an outage", "hours", "days"])
@pytest.mark.parametrize("histograms", get_args(Histograms))
def test_prometheus_fires_when_we_do(tmp_path: Path, histograms: Histograms, of: Scenario) -> None:
    burning, rules = ours(of), of.rules
    seen = {name for found in burning for name, _ in found}
    assert seen == set(of.burning)
    (tmp_path / "rules.yaml").write_text(prometheus(rules, ExportOptions(histograms=histograms, interval=of.evaluated)))
    compared = [(rule.name, second, burns) for rule in rules for second, burns in settled(of, burning, rule.name)]
    assert {(name, burns) for name, _, burns in compared} == set(product(of.burning, (True, False)))
    expected = [
        {
            "expr": f'count(ALERTS{{alertstate="firing",rule="{name}"}}) > bool 0',
            "eval_time": f"{second}s",
            "exp_samples": [{"labels": "{}", "value": 1}] if burns else [],
        }
        for name, second, burns in compared
    ]
    test: dict[str, Any] = {
        "interval": f"{of.step}s",
        "input_series": series(of, histograms),
        "promql_expr_test": expected,
    }
    (tmp_path / "test.yaml").write_text(
        json.dumps({"rule_files": ["rules.yaml"], "evaluation_interval": f"{of.step}s", "tests": [test]})
    )
    checked = promtool("check", "rules", "--lint=all", "--lint-fatal", str(tmp_path / "rules.yaml"))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    outcome = promtool("test", "rules", str(tmp_path / "test.yaml"))
    assert outcome.returncode == 0, (outcome.stdout + outcome.stderr)[-6000:]
