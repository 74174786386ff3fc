"""What a run prints: progress on standard error, Markdown on standard output."""

import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version

from tests.benchmarks.figures import Goal, markdown


def say(text: str) -> None:
    """A line of progress."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


class Report:
    """Collects goals over all sections and prints each section as it is done."""

    def __init__(self) -> None:
        self.goals: list[Goal] = []

    def title(self) -> None:
        """What was measured where."""
        packages = ("fastapi", "opentelemetry-sdk", "opentelemetry-instrumentation-fastapi", "pymongo")
        versions = ", ".join(f"{package} {version(package)}" for package in packages)
        self.text(f"Python {platform.python_version()}, {versions}; {platform.machine()}.")

    def section(self, heading: str, explanation: str) -> None:
        """Begin a section."""
        self.text(f"### {heading}\n\n{explanation}")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table."""
        self.text(markdown(head, rows))

    def reach(self, goals: Sequence[Goal]) -> None:
        """Print whether the section's goals are reached."""
        self.goals += goals
        if goals:
            self.table(("goal", "measured", "limit", "reached"), [goal.cells() for goal in goals])

    def close(self) -> None:
        """Print the number of goals reached."""
        missed = [goal.what for goal in self.goals if not goal.reached]
        self.text(f"{len(self.goals) - len(missed)} of {len(self.goals)} goals reached.")
        if missed:
            self.text("Missed: " + "; ".join(missed) + ".")

    def text(self, text: str) -> None:
        """Print a paragraph."""
        sys.stdout.write(f"{text}\n\n")
        sys.stdout.flush()
