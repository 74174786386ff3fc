"""`tagged`: what a piece of work is about, on every span and log record of it, in every process it reaches."""

from collections.abc import Mapping

from opentelemetry import context as contexts
from opentelemetry.trace import get_current_span

from otel_monitoring.baggage import bounded, with_entries
from otel_monitoring.tracing.destination import current_destination
from otel_monitoring.tracing.scope import Begun, Block, Scope


class tagged(Block[None, "_Tags"]):  # noqa: N801 - reads as a statement
    """Tag the current span and everything inside the `with` block.

    `with tagged({"order.id": order_id}):` puts the values into the baggage. Those whose keys are listed in
    `OTEL_MONITORING_BAGGAGE_KEYS` become attributes of the current span, and of every span and log record that
    follows: here, in the services that are called, and in work that is `continued` from a document. Never tag with
    secrets: baggage leaves in the headers of requests.

    Args:
        values: By key; of each value the first 128 characters count.
    """

    def __init__(self, values: Mapping[str, str | int | float]) -> None:
        super().__init__()
        self._values = values

    def __repr__(self) -> str:
        return f"tagged({list(self._values)})"

    def _begin(self) -> tuple[None, "_Tags"]:
        return None, _Tags({key: bounded(value) for key, value in self._values.items()})


class _Tags(Begun):
    __slots__ = ("scope",)

    def __init__(self, entries: dict[str, str]) -> None:
        keys = current_destination().keys
        get_current_span().set_attributes({key: value for key, value in entries.items() if key in keys})
        self.scope = Scope(with_entries(entries, contexts.get_current()))

    def end(self, error: BaseException | None) -> None:
        """Nothing but the scope ends."""
