"""`tagged`: attributes of every span and log record of some work, in every process that the work reaches."""

from collections.abc import Mapping

from opentelemetry import context as contexts
from opentelemetry.trace import get_current_span

from otel_monitoring.baggage import bounded, with_entries
from otel_monitoring.tracing.destination import current_destination
from otel_monitoring.tracing.scope import Block, ContextScope, Entry


class tagged(Block[None, "_Tags"]):  # noqa: N801 - reads as a statement
    """Tag the current span and everything inside the `with` block.

    `with tagged({"order.id": order_id}):` adds the values to the baggage. Those with keys in
    `OTEL_MONITORING_BAGGAGE_KEYS` become attributes of the current span, and of every span and log record made inside:
    in this process, in called services, and in work that is `continued` from a document. Baggage is sent in the headers
    of requests: do not tag with secrets.

    Args:
        values: The values by key; each is cut to 128 characters.
    """

    def __init__(self, values: Mapping[str, str | int | float]) -> None:
        super().__init__()
        self._values = values

    def __repr__(self) -> str:
        return f"tagged({list(self._values)})"

    def _begin(self) -> tuple[None, "_Tags"]:
        return None, _Tags({key: bounded(value) for key, value in self._values.items()})


class _Tags(Entry):
    __slots__ = ()

    def __init__(self, entries: dict[str, str]) -> None:
        keys = current_destination().keys
        get_current_span().set_attributes({key: value for key, value in entries.items() if key in keys})
        self.scope = ContextScope(with_entries(entries, contexts.get_current()))

    def end(self, error: BaseException | None) -> None:
        """Nothing: only the scope ends."""
