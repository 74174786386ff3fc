"""`--write-docs`: puts what a run has printed into `docs/benchmarks.md` and the README, between its marks."""

import re
from collections.abc import Mapping
from pathlib import Path

from tests.benchmarks.goals import GOALS
from tests.benchmarks.report import Report

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"(?<=<!-- bench: )([\w.]+) -->\n(.*?)(?=<!-- end -->)", re.DOTALL)
_GOALS = "goals"
_CHEAP = "requests.embedded.40"
_SENTENCE = re.compile(r"(?m)^- \*\*Cheap\.\*\* .*$")


def write(report: Report, *, whole: bool) -> None:
    """Write both pages.

    Args:
        report: Of a run that is closed.
        whole: Whether every section ran, so that all figures are of one machine at one time.
    """
    page, readme = ROOT / "docs" / "benchmarks.md", ROOT / "README.md"
    page.write_text(page_with(page.read_text(), report.tables, report.machine if whole else ""))
    if (cheap := report.cells.get(_CHEAP)) is not None:
        readme.write_text(_SENTENCE.sub(lambda _: sentence(cheap[1], cheap[2]), readme.read_text()))


def sentence(ours: str, beside: str) -> str:
    """What the README says of costs.

    Args:
        ours: What is measured.
        beside: The peer, and what is measured of it.
    """
    peer, _, theirs = beside.partition(": ")
    told = f"{ours} of CPU a request without export, where {peer} adds {theirs}"
    return f"- **Cheap.** {told}; see [benchmarks](docs/benchmarks.md)."


def page_with(page: str, tables: Mapping[str, str], machine: str) -> str:
    """The page with the tables that it has marks for; rows of goals that were not measured stay as they are.

    Args:
        page: Its text.
        tables: Of the run, by their marks.
        machine: What the run says of the machine; an empty text for a part of a run.
    """

    def block(found: re.Match[str]) -> str:
        name, before = found.groups()
        if name == "machine":
            after = f"{machine}\n" if machine else before
        elif name == _GOALS and _GOALS in tables:
            after = _merged(before, tables[_GOALS]) + "\n"
        else:
            after = tables[name] + "\n" if name in tables else before
        return f"{name} -->\n{after}"

    return _BLOCK.sub(block, page)


def _merged(before: str, after: str) -> str:
    """The table of goals: the rows of `before`, and in their place those of `after` where there are."""
    lines = _rows(before) | _rows(after)
    rows = [(goal.what, goal.peer) for goal in GOALS.values()]
    return "\n".join([*after.splitlines()[:2], *(lines[row] for row in rows if row in lines)])


def _rows(table: str) -> dict[tuple[str, str], str]:
    """The lines of a table below its head, by what is measured beside whom."""
    found = {}
    for line in table.splitlines()[2:]:
        what, _, beside, *_ = (cell.strip() for cell in line.strip("|").split("|"))
        found[what, beside.partition(":")[0]] = line
    return found
