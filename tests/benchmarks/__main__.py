"""`python -m tests.benchmarks`: run the benchmarks and print Markdown, in the end every figure beside its goal.

Ends with 1 where a goal is missed by more than a fifth, and says which.
"""

import argparse
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.benchmarks import (
    alerts,
    answers,
    collector,
    documentation,
    evidence,
    history,
    load,
    memory,
    mongodb,
    page,
    quantile_error,
    request_cost,
    routes,
    service,
    slices,
    start,
    traced,
)
from tests.benchmarks.calibration import slowness
from tests.benchmarks.pace import Rounds
from tests.benchmarks.processes import Sink
from tests.benchmarks.report import Report, say
from tests.benchmarks.request_cost import Effort


@dataclass(frozen=True, slots=True)
class Run:
    """What a section gets.

    Attributes:
        report: Where its tables and figures go.
        sink: The receiver of telemetry.
        quick: Whether to do a small part of the work.
        asked: How many rounds the user asks for.
    """

    report: Report
    sink: Sink
    quick: bool
    asked: int | None = None

    def pick(self, full: int, quick: int) -> int:
        """How much to do."""
        return quick if self.quick else full

    def rounds(self, full: int, quick: int) -> int:
        """How many rounds to run."""
        return self.asked or self.pick(full, quick)

    def paced(self, full: int, least: int, most: int, seconds: float) -> Rounds:
        """How many rounds to run; a quick run makes fewer where they take longer."""
        if self.asked or not self.quick:
            return Rounds(self.asked or full)
        return Rounds(most, least, seconds)

    @property
    def effort(self) -> Effort:
        """How many requests to make."""
        return Effort(self.paced(60, least=12, most=16, seconds=5), self.pick(160, 60), self.pick(1000, 120))


SECTIONS: dict[str, Callable[[Run], None]] = {
    "requests": lambda run: request_cost.run(run.report, run.sink, run.effort, lean=run.quick),
    "growth": lambda run: request_cost.growth(run.report, run.sink, run.effort, lean=run.quick),
    "mongodb": lambda run: mongodb.run(run.report, run.paced(500, least=60, most=150, seconds=5), lean=run.quick),
    "routes": lambda run: routes.run(run.report, run.paced(1000, least=100, most=200, seconds=4)),
    "traced": lambda run: traced.run(run.report, run.paced(80, least=10, most=20, seconds=4)),
    "start": lambda run: start.run(run.report, run.sink, rounds=run.rounds(10, 2), lean=run.quick),
    "idle": lambda run: start.idle(
        run.report, run.sink, seconds=run.pick(60, 5), ticks=run.pick(60_480, 300), lean=run.quick
    ),
    "memory": lambda run: memory.run(
        run.report, requests=run.pick(100_000, 1_000), million=run.pick(1_000_000, 0), lean=run.quick
    ),
    "answers": lambda run: answers.run(run.report, run.sink, rounds=run.rounds(20, 3), lean=run.quick),
    "alerts": lambda run: alerts.run(run.report, rounds=run.rounds(100, 20)),
    "quantiles": lambda run: quantile_error.run(run.report, samples=run.pick(200_000, 20_000)),
    "history": lambda run: history.run(run.report, rounds=run.rounds(15, 3), lean=run.quick),
    "past": lambda run: slices.run(run.report, rounds=run.rounds(10, 1), lean=run.quick),
    "service": lambda run: service.run(run.report, rounds=run.rounds(12, 4)),
    "page": lambda run: page.run(run.report, run.sink, rounds=run.rounds(6, 1), seconds=run.pick(20, 10)),
    "load": lambda run: load.run(run.report, run.sink, rounds=run.rounds(30, 3), seconds=1.5),
    "evidence": lambda run: evidence.run(run.report),
    "collector": lambda run: collector.run(
        run.report, run.sink, run.rounds(5, 2), batches=run.pick(400, 100), lean=run.quick
    ),
}

_LONG = ("load", "evidence")
"""What a quick run leaves out: a service must be well for a while before something goes wrong in it."""


def main() -> int:
    """Parse the options and run the sections; returns the exit code."""
    options = _options()
    report = Report(options.sections, slowness)
    report.title()
    with _sink() as sink:
        run = Run(report, sink, options.quick, options.rounds)
        # What was imported is no garbage: who collects before a measurement need not look at it again.
        gc.collect()
        gc.freeze()
        for section in options.sections:
            began, used = time.monotonic(), _cpu()
            SECTIONS[section](run)
            say(f"{section}: {time.monotonic() - began:.0f} s, {_cpu() - used:.0f} s of CPU")
    far = report.close()
    if options.write_docs:
        documentation.write(report, whole=options.sections == list(SECTIONS))
    for line in far:
        say(f"far from its goal: {line}")
    return 1 if far else 0


def _cpu() -> float:
    """Seconds of CPU so far, with what the processes took that have ended."""
    return sum(os.times()[:4])


@contextmanager
def _sink() -> Iterator[Sink]:
    sink = Sink()
    try:
        yield sink
    finally:
        sink.end()


def _options() -> argparse.Namespace:
    names = list(SECTIONS)
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--sections", nargs="+", choices=names, metavar="SECTION", help=", ".join(names))
    parser.add_argument("--rounds", type=int, help="interleaved rounds")
    parser.add_argument("--quick", action="store_true", help="a small part of the work, in less than three minutes")
    parser.add_argument("--write-docs", action="store_true", help="put what was measured into docs/benchmarks.md")
    options = parser.parse_args()
    options.sections = options.sections or [name for name in names if not (options.quick and name in _LONG)]
    return options


if __name__ == "__main__":
    sys.exit(main())
