"""What a run prints: progress on standard error, Markdown on standard output; and whether its goals are reached."""

import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from statistics import mean

from tests.benchmarks.figures import Figure, markdown
from tests.benchmarks.goals import GOALS, Goal, section_of

_HEAD = ("what", "measured", "beside", "judged", "goal", "reached")


def say(text: str) -> None:
    """A line of progress."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


class Report:
    """Prints each section as it is done, and in the end all figures beside their goals.

    Args:
        sections: Those that run: theirs are the rows that must be measured.
        calibrate: How slow the machine is at the moment; asked before and after each section.
        goals: The rows.

    Attributes:
        tables: The tables that docs/benchmarks.md has, by their marks.
        cells: The rows of the table of goals that were measured, after `close`.
        machine: What is said of the machine, after `close`.
    """

    def __init__(
        self, sections: Sequence[str], calibrate: Callable[[], float], goals: Mapping[str, Goal] = GOALS
    ) -> None:
        self._goals = goals
        self._calibrate = calibrate
        self._slowness: list[float] = []
        self._found: dict[str, tuple[Figure, int]] = {}
        self._left_out: dict[str, str] = {}
        self.tables: dict[str, str] = {}
        self.cells: dict[str, list[str]] = {}
        self.machine = ""
        self._due = [key for key in goals if section_of(key) in sections]

    def title(self) -> None:
        """What was measured where."""
        self.text(_versions())

    def section(self, heading: str, explanation: str) -> None:
        """Begin a section."""
        self._slowness.append(self._calibrate())
        self.text(f"### {heading}\n\n{explanation}")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], mark: str = "") -> None:
        """Print a table.

        Args:
            head: The titles of the columns.
            rows: The cells.
            mark: Where it stands in docs/benchmarks.md; empty: nowhere.
        """
        printed = markdown(head, rows)
        if mark:
            self.tables[mark] = printed
        self.text(printed)

    def figure(self, key: str, value: float, *, ours: str = "", peer: str = "") -> None:
        """Note what was measured for a row of the table of goals.

        Args:
            key: Of the row, in the table of goals.
            value: In the goal's unit.
            ours: What was measured, with its unit, where the value is a ratio of it.
            peer: What was measured of the peer, with its unit.
        """
        self._found[key] = Figure(self._goals[key], value, ours, peer), len(self._slowness)

    def leave_out(self, key: str, reason: str) -> None:
        """Say why a row, or all rows of a section, cannot be measured here."""
        self._left_out[key] = reason

    def close(self) -> list[str]:
        """Print all figures beside their goals.

        Returns:
            A line for each row that misses its goal by more than a fifth, or that nothing has measured.
        """
        self._slowness.append(self._calibrate())
        figures = {key: self._scaled(*found) for key, found in self._found.items()}
        self.cells = {key: figure.cells() for key, figure in figures.items()}
        least, most = min(self._slowness), max(self._slowness)
        needs = f"It needed {least:.2f} to {most:.2f} times the reference machine's CPU time."
        reached = sum(figure.reached for figure in figures.values())
        self.machine = f"{_versions()} {needs} {reached} of {len(self._due)} goals are reached."
        self.text(f"### Goals\n\n{self.machine}")
        self.table(_HEAD, [self.cells.get(key) or self._unmeasured(key) for key in self._due], "goals")
        far = [f"{key}: {' | '.join(figure.cells())}" for key, figure in figures.items() if figure.far]
        return far + [f"{key}: nothing has measured it" for key in self._due if not self._explained(key)]

    def text(self, text: str) -> None:
        """Print a paragraph."""
        sys.stdout.write(f"{text}\n\n")
        sys.stdout.flush()

    def _scaled(self, figure: Figure, section: int) -> Figure:
        return replace(figure, slowness=mean(self._slowness[section - 1 : section + 1]))

    def _reason(self, key: str) -> str | None:
        return self._left_out.get(key) or self._left_out.get(section_of(key))

    def _explained(self, key: str) -> bool:
        return key in self._found or self._reason(key) is not None

    def _unmeasured(self, key: str) -> list[str]:
        goal = self._goals[key]
        why = self._reason(key) or "nothing has measured it"
        return [goal.what, "-", goal.peer, "-", f"<= {goal.limit:g} {goal.unit}", f"left out: {why}"]


def _versions() -> str:
    packages = ("fastapi", "opentelemetry-sdk", "opentelemetry-instrumentation-fastapi", "pymongo")
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    return f"Python {platform.python_version()}, {versions}; {platform.machine()}, {os.cpu_count()} cores."
