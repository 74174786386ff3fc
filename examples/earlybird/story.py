"""`Story`: the spans of one order, connected by parents and links, as a tree."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from examples.earlybird.receiver import Received

ORDER_ID = "order.id"


@dataclass(frozen=True)
class Span:
    """A span as it was exported; times are Unix nanoseconds."""

    service: str
    name: str
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    links: tuple[bytes, ...]
    start: int
    end: int
    attributes: dict[str, str]
    failed: bool

    @classmethod
    def of(cls, received: Received) -> "Span":
        span = received.item
        return cls(
            service=received.service,
            name=span.name,
            trace_id=span.trace_id,
            span_id=span.span_id,
            parent_id=span.parent_span_id,
            links=tuple(link.span_id for link in span.links),
            start=span.start_time_unix_nano,
            end=span.end_time_unix_nano,
            attributes={a.key: a.value.string_value for a in span.attributes},
            failed=span.status.code == 2,
        )


class Story:
    """The spans that are connected with the request that placed an order, by parents and links.

    Args:
        order_id: The order's id.
        spans: All exported spans.

    Attributes:
        root: The span of the request.
        spans: The spans of the story, depth first.
        strays: Spans with the order's id that are not connected with the others.

    Raises:
        LookupError: No span has the order's id.
    """

    def __init__(self, order_id: str, spans: Iterable[Span]) -> None:
        everything = {span.span_id: span for span in sorted(spans, key=lambda span: span.start)}
        about = [span for span in everything.values() if span.attributes.get(ORDER_ID) == order_id]
        if not about:
            raise LookupError(f"no span of the order {order_id} was exported")
        self.order_id = order_id
        self.root = about[0]
        self._below: dict[bytes, list[Span]] = {}
        for span in everything.values():
            # The root of a linked trace is below the span that it is linked to.
            possible = (span.parent_id,) if span.parent_id else span.links
            above = next((other for other in possible if other in everything), None)
            if above is not None:
                self._below.setdefault(above, []).append(span)
        self.spans = list(self._walk(self.root))
        reached = {span.span_id for span in self.spans}
        self.strays = [span for span in about if span.span_id not in reached]

    @property
    def services(self) -> list[str]:
        """The names of the services, in the order of their first spans."""
        return list(dict.fromkeys(span.service for span in self.spans))

    @property
    def seconds(self) -> float:
        return (max(span.end for span in self.spans) - self.root.start) / 1e9

    def complaints(self, records: Sequence[Received]) -> list[str]:
        """The gaps of the story: unconnected spans, and spans and log records without the order's id."""
        traces = {span.trace_id for span in self.spans}
        found = [f"{s.service}: {s.name} hangs together with nothing" for s in self.strays]
        found += [
            f"{s.service}: {s.name} says nothing of the order"
            for s in self.spans
            if s.attributes.get(ORDER_ID) != self.order_id
        ]
        for record in records:
            ids = [a.value.string_value for a in record.item.attributes if a.key == ORDER_ID]
            if record.item.trace_id in traces and ids != [self.order_id]:
                found.append(f"{record.service}: the log line {record.item.body.string_value!r} says nothing of it")
        return found

    def _walk(self, span: Span) -> Iterator[Span]:
        yield span
        for child in self._below.get(span.span_id, []):
            yield from self._walk(child)

    def lines(self) -> list[str]:
        """The tree as text: service, span, start relative to the request, duration."""
        rows = list(self._rows(self.root, "", ""))
        services, names = (max(len(row[column]) for row in rows) for column in (0, 1))
        return [f"{service:{services}}  {name:{names}}  {times}" for service, name, times in rows]

    def _rows(self, span: Span, lead: str, below: str) -> Iterator[tuple[str, str, str]]:
        after, took = (span.start - self.root.start) / 1e6, (span.end - span.start) / 1e6
        notes = ["linked"] * _is_linked(span) + ["failed"] * span.failed
        times = f"{after:+9.1f} ms {took:8.1f} ms  {', '.join(notes)}"
        yield span.service, lead + span.name, times.rstrip()
        children = self._below.get(span.span_id, [])
        for child in children:
            last = child is children[-1]
            branch = ("└" if last else "├") + ("┄▷ " if _is_linked(child) else "── ")
            yield from self._rows(child, below + branch, below + ("    " if last else "│   "))


def _is_linked(span: Span) -> bool:
    return bool(span.links) and not span.parent_id
