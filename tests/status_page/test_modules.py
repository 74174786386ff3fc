"""What the modules compute, run by node: the past is continued without a seam, and alerts that overlap are one."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import unavailable
from tests.status_page.test_document import ASSETS

pytestmark = pytest.mark.slow


def computed(folder: Path, module: str, call: str) -> Any:
    """The value of an expression over what a module exports, `m`."""
    node = shutil.which("node")
    if node is None:
        unavailable("node is missing: install Debian's nodejs")
    shutil.copytree(ASSETS, folder, dirs_exist_ok=True)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "run.js").write_text(
        f'import * as m from "./{module}.js";\nconsole.log(JSON.stringify({call} ?? null));\n'
    )
    result = subprocess.run([node, "run.js"], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def past(start: int, values: list[float | None], **more: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"endpoint": None, "bounds": [], "durations": [], "bands": [], "releases": []}
    return {"start": start, "step": 10, "length": len(values), "values": {"p50": values}, **empty, **more}


def continued(folder: Path, known: dict[str, Any], news: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = computed(folder, "past", f"m.continued({json.dumps(known)}, {json.dumps(news)})")
    return found


def test_the_past_is_continued_without_a_seam(tmp_path: Path) -> None:
    known = past(1000, [1, 2, 3, None], bounds=[0.1, 0.2], durations=[[1, 0], None, [0, 2], None])
    news = past(1030, [4, 5], bounds=[0.2, 0.4], durations=[[7, 8], [9, 0]])
    whole = continued(tmp_path, known, news)
    assert (whole["start"], whole["values"]["p50"]) == (1010, [2, 3, 4, 5])
    assert whole["bounds"] == [0.1, 0.2, 0.4]
    assert whole["durations"] == [None, [0, 2, 0], [0, 7, 8], [0, 9, 0]]


def test_what_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    known = past(1000, [1, 2])
    assert continued(tmp_path, known, past(1100, [3])) == known  # there is a hole between
    assert continued(tmp_path, known, {**past(1010, [3]), "step": 60}) == known


def test_alerts_that_overlap_are_one_time_and_the_worst_counts(tmp_path: Path) -> None:
    bands = [
        {"time": 0, "end": 50, "severity": "warning"},
        {"time": 20, "end": 30, "severity": "critical"},
        {"time": 25, "end": 70, "severity": "warning"},
        {"time": 80, "end": None, "severity": "error"},
        {"time": 200, "end": 210, "severity": "error"},
    ]
    found = computed(tmp_path, "chart", f"m.merged({json.dumps(bands)}, 10, 100)")
    assert [(one["from"], one["to"], one["isWorse"]) for one in found] == [
        (10, 20, False),
        (20, 30, True),
        (30, 70, False),
        (80, 100, True),
    ]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("m.seconds(0.0614)", "61 ms"),
        ("m.percent(4)", "4.0 %"),
        ("m.rate(1234)", "1.2 k/s"),
        ("m.duration(372)", "6 min"),
        ("m.duration(7500)", "2 h 5 min"),
        ("m.seconds(null)", "\u2013"),
        ("m.exact(1800000000)", "2027-01-15 08:00:00 UTC"),
    ],
)
def test_numbers_are_as_people_say_them(tmp_path: Path, call: str, said: str) -> None:
    assert computed(tmp_path, "format", call).replace("\u00a0", " ") == said
