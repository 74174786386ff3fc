"""What open status pages cost the service, and how many bytes they ask it for."""

import gzip
from concurrent.futures import ThreadPoolExecutor
from statistics import median

from otel_monitoring.status_page.document import page
from tests.benchmarks.figures import added
from tests.benchmarks.processes import QUIET, Sink, Worker, workers
from tests.benchmarks.report import Report, say
from tests.benchmarks.variants import BY_NAME

_ROUTES = 300
_STATUSES = [200, 404, 503]
_EACH = 20
_WARM_UP = 300
_PAGES = 5
_KB = 1000
_UPDATES = {
    "first": "the first, with gzip",
    "later": "a later one, unpacked",
    "every": "one for a page that filters or shows every endpoint, unpacked",
}


def run(report: Report, sink: Sink, rounds: int, seconds: int) -> None:
    """The section of the report."""
    report.section(
        "The status page",
        f"Process CPU of a service of {_ROUTES} routes that nobody but {_PAGES} open pages asks, each as often as the "
        f"page itself asks, beside the same service without pages at the same time: {rounds} rounds of {seconds} s.",
    )
    variant = BY_NAME["ours_embedded"]
    with workers([variant, variant], _ROUTES, sink, _WARM_UP, QUIET) as services, ThreadPoolExecutor(2) as both:
        found: dict[int, list[float]] = {0: [], _PAGES: []}
        sizes: list[dict[str, float]] = []
        for number in range(rounds):
            say(f"page: round {number + 1} of {rounds}")
            list(both.map(lambda worker: worker.do("fill", statuses=_STATUSES, each=_EACH), services))

            def measured(worker: Worker, count: int) -> dict[str, float]:
                cost: dict[str, float] = worker.do("pages", count=count, seconds=seconds)
                found[count].append(cost["process"] * 100)
                return cost

            _, with_pages = both.map(measured, services, found)
            sizes.append(with_pages)
    alone, pages = found[0], found[_PAGES]
    more = added(pages, alone)
    rows = [["no page", f"{median(alone):.2f}"], [f"{_PAGES} pages", f"{median(pages):.2f}"]]
    report.table(("open", "% of a core"), rows)
    sizes_of = [[name, f"{max(one[key] for one in sizes) / _KB:.1f}"] for key, name in _UPDATES.items()]
    report.table(("update", "kB"), sizes_of)
    report.figure("page.cpu", more, ours=f"{median(pages):.2f} %", peer=f"{median(alone):.2f} %")
    report.figure("page.update", max(one["later"] for one in sizes) / _KB)
    report.figure("page.first", max(one["first"] for one in sizes) / _KB)
    report.figure("page.document", len(gzip.compress(page().content.encode(), 6)) / _KB)
