"""`SliceMaker`: makes slices of the deltas that the processes of a service published."""

from collections.abc import Sequence
from typing import NamedTuple

from otel_monitoring.metrics.outcome import OutcomeClassifier, RequestOutcome
from otel_monitoring.metrics.serialization import EncodedSnapshot, SnapshotCodec
from otel_monitoring.metrics.slices.model import (
    ROUTE_SCALE,
    SCALE,
    Requests,
    Slice,
)
from otel_monitoring.metrics.snapshot import Histogram, Row, merged, merged_rows
from otel_monitoring.redact import redact
from otel_monitoring.runtime.give_way import give_way, giving_way
from otel_monitoring.semconv import HTTP_ROUTE, HTTP_SERVER_REQUEST_DURATION, UNMATCHED_ROUTE

_NAME_LENGTH = 200
_MAX_KNOWN = 50_000


class _Kind(NamedTuple):
    """What a series is: the `route` of requests, or the `name` under which a slice has it."""

    route: str | None
    is_error: bool
    name: str
    metric: str


class SliceMaker:
    """Makes slices of decoded deltas. It remembers what each series is. One thread at a time uses it.

    Args:
        codec: The codec that decoded the deltas.
        classify: Which requests are errors.
    """

    def __init__(self, codec: SnapshotCodec, classify: OutcomeClassifier) -> None:
        self._codec = codec
        self._classify = classify
        self._kinds: dict[str, _Kind] = {}

    def slice_of(self, parts: Sequence[EncodedSnapshot]) -> Slice:
        """The sum of `parts` as one slice, without gauges and without a limit to the number of routes and names.

        It has the requests, and the counters and histograms that the notes of `parts` call the application's own.
        """
        found: dict[str, Row] = {}
        for part in parts:
            give_way()
            part.add_to(found)
        own = {str(name) for part in parts for name in part.note.get("own", ())}
        rows: dict[str, list[Row]] = {}
        errors: dict[str, int] = {}
        recorded: dict[str, list[Row]] = {}
        for text, row in giving_way(found.items()):
            kind = self._kind(text)
            if kind.route is not None:
                rows.setdefault(kind.route, []).append(row)
                if kind.is_error:
                    errors[kind.route] = errors.get(kind.route, 0) + row[0]  # its count
            elif kind.metric in own:
                recorded.setdefault(kind.name, []).append(row)
        increases: dict[str, float] = {}
        for text, value in (
            (text, value) for part in parts for text, value in zip(part.counters, part.sums, strict=True)
        ):
            kind = self._kind(text)
            if kind.metric in own:
                increases[kind.name] = increases.get(kind.name, 0.0) + value
        exact = {route: merged_rows(several) for route, several in rows.items()}
        routes = {name: Requests(_at_most(one, ROUTE_SCALE), errors.get(name, 0)) for name, one in exact.items()}
        whole = Requests(_at_most(merged(exact.values()), SCALE), sum(errors.values()))
        histograms = {name: _at_most(merged_rows(several), ROUTE_SCALE) for name, several in recorded.items()}
        return Slice(0.0, whole, routes, {}, increases, histograms)

    def _kind(self, text: str) -> _Kind:
        known = self._kinds.get(text)
        if known is None:
            if len(self._kinds) >= _MAX_KNOWN:
                self._kinds.clear()
            known = self._kinds[text] = self._found(text)
        return known

    def _found(self, text: str) -> _Kind:
        series = self._codec.series_of(text)
        if series.name != HTTP_SERVER_REQUEST_DURATION:
            return _Kind(None, False, redact(series.name, limit=_NAME_LENGTH), series.name)
        route = series.get(HTTP_ROUTE)
        is_error = self._classify(series) is RequestOutcome.ERROR
        return _Kind(UNMATCHED_ROUTE if route is None else str(route), is_error, "", series.name)


def _at_most(histogram: Histogram, scale: int) -> Histogram:
    """The distribution at `scale`, or at its own if that is smaller."""
    halvings = histogram.scale - scale
    if halvings <= 0 or not histogram.count:
        return histogram
    return histogram.coarser(halvings)
