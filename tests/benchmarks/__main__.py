"""`python -m tests.benchmarks`: run the benchmarks, about a quarter of an hour, and print Markdown."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from tests.benchmarks import alerts, answers, collector, history, memory, mongodb, quantile_error, request_cost, traced
from tests.benchmarks.processes import Sink
from tests.benchmarks.report import Report
from tests.benchmarks.request_cost import Effort
from tests.benchmarks.variants import VARIANTS

SECTIONS = (
    "requests",
    "growth",
    "answers",
    "memory",
    "quantiles",
    "history",
    "mongodb",
    "traced",
    "alerts",
    "collector",
)


def main() -> None:
    """Parse the options and run the sections."""
    options = _options()
    report = Report()
    report.title()
    quick = options.quick
    with _sink() as sink:
        effort = Effort(options.rounds or (5 if quick else 25), 100 if quick else 400, 200 if quick else 1000)
        if "requests" in options.sections:
            request_cost.run(report, sink, options.variants, options.routes, effort)
        if "growth" in options.sections:
            request_cost.growth(report, sink, effort)
        if "answers" in options.sections:
            answers.run(report, sink, rounds=options.rounds or (5 if quick else 20))
        if "memory" in options.sections:
            memory.run(report, sink, requests=10_000 if quick else 100_000)
        if "collector" in options.sections:
            collector.run(report, sink, rounds=options.rounds or (2 if quick else 5), batches=100 if quick else 400)
    if "quantiles" in options.sections:
        quantile_error.run(report, samples=20_000 if quick else 200_000)
    if "history" in options.sections:
        history.run(report, rounds=options.rounds or (5 if quick else 15))
    if "mongodb" in options.sections:
        mongodb.run(report, rounds=options.rounds or (5 if quick else 15))
    if "traced" in options.sections:
        traced.run(report, rounds=options.rounds or (5 if quick else 25))
    if "alerts" in options.sections:
        alerts.run(report, rounds=20 if quick else 100)
    report.close()


@contextmanager
def _sink() -> Iterator[Sink]:
    sink = Sink()
    try:
        yield sink
    finally:
        sink.end()


def _options() -> argparse.Namespace:
    names = [variant.name for variant in VARIANTS]
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="SECTION")
    parser.add_argument("--variants", nargs="+", choices=names, default=names, metavar="VARIANT", help=", ".join(names))
    parser.add_argument("--routes", nargs="+", type=int, default=[10, 40, 300], help="numbers of routes")
    parser.add_argument("--rounds", type=int, help="interleaved rounds")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, for a first look")
    return parser.parse_args()


if __name__ == "__main__":
    main()
