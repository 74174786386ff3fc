"""`timeline`: the slices of a stretch of the past in order, each time as fine as it is kept."""

from collections.abc import Iterator, Mapping
from itertools import pairwise

from otel_monitoring.metrics.buckets import Buckets
from otel_monitoring.metrics.slices.model import TIERS, Slice
from otel_monitoring.metrics.slices.sums import slices_between
from otel_monitoring.metrics.slices.table import SliceTable
from otel_monitoring.metrics.snapshot import Histogram, Series, Snapshot
from otel_monitoring.semconv import (
    ERROR_TYPE,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
    HTTP_SERVER_REQUEST_DURATION,
    UNMATCHED_ROUTE,
)


def timeline(table: SliceTable, start: int, end: int) -> Iterator[tuple[int, int, Slice]]:
    """The slices between two times with their starts and ends, in order.

    Args:
        table: The slices.
        start: Unix seconds.
        end: Unix seconds; the present.
    """
    reached = start
    coarse_first = tuple(reversed(TIERS))
    for tier, finer in pairwise(coarse_first):
        # From there on the finer slices are kept; whole slots of the coarser ones lead up to it.
        until = min(end, max(reached, -(-(end - finer.kept) // tier.seconds) * tier.seconds))
        for begin, finish, content in slices_between(table, tier, tier.slot(reached), until):
            if finish > reached:
                yield begin, finish, content
                reached = finish
        reached = max(reached, until)
    yield from slices_between(table, coarse_first[-1], reached, end)


def snapshot_of(start: int, end: int, content: Slice, gauges: Mapping[str, Series], failed: int) -> Snapshot:
    """A slice in the form in which rules read measurements.

    The failed requests of a route are a series of their own. A slice does not say how long they took: they are taken
    for the longest. Of both together numbers and durations are right.

    Args:
        start: The start of its slot, in Unix seconds.
        end: Its end.
        content: The slice.
        gauges: The series of each gauge that rules can read, by its name in slices.
        failed: The status of the failed requests.
    """
    histograms: dict[Series, Histogram] = {}
    for route, requests in content.routes.items():
        where = () if route == UNMATCHED_ROUTE else ((HTTP_ROUTE, route),)
        good, failed_ones = _split(requests.durations, requests.errors)
        if good.count:
            histograms[Series(HTTP_SERVER_REQUEST_DURATION, ((HTTP_RESPONSE_STATUS_CODE, 200), *where))] = good
        if failed_ones.count:
            cause = ((ERROR_TYPE, str(failed)), (HTTP_RESPONSE_STATUS_CODE, failed), *where)
            histograms[Series(HTTP_SERVER_REQUEST_DURATION, cause)] = failed_ones
    sums = {Series(name): value for name, value in content.counters.items()}
    read = {gauges[name]: figures.most for name, figures in content.gauges.items() if name in gauges}
    return Snapshot(start, end, histograms, sums, read)


def _split(whole: Histogram, largest: int) -> tuple[Histogram, Histogram]:
    """The distribution without its `largest` largest values, and the distribution of these."""
    if not largest or largest >= whole.count:
        return (Histogram(), whole) if largest else (whole, Histogram())
    counts, rest = list(whole.buckets.counts()), largest
    taken = [0] * len(counts)
    for index in range(len(counts) - 1, -1, -1):
        taken[index] = min(counts[index], rest)
        counts[index] -= taken[index]
        rest -= taken[index]
    share, rest = largest / whole.count, min(rest, whole.at_zero)
    first, at_zero = whole.first, whole.at_zero - rest
    few, many = Buckets.of(first, counts), Buckets.of(first, taken)
    return (
        whole._replace(count=whole.count - largest, sum=whole.sum * (1 - share), at_zero=at_zero, **few._asdict()),
        whole._replace(count=largest, sum=whole.sum * share, at_zero=rest, **many._asdict()),
    )
