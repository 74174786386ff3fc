"""`tagged`: what a piece of work is about, on every span and log record of it, in every process it reaches."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import context as contexts
from opentelemetry.trace import get_current_span

from otel_monitoring.correlation import bounded, with_entries
from otel_monitoring.tracing.source import current


@contextmanager
def tagged(values: Mapping[str, str | int | float]) -> Iterator[None]:
    """Tag the current span and everything inside the `with` block.

    `with tagged({"order.id": order_id}):` puts the values into the baggage. Those whose keys are listed in
    `OTEL_MONITORING_BAGGAGE_KEYS` become attributes of the current span, and of every span and log record that
    follows: here, in the services that are called, and in work that is `continued` from a document. Never tag with
    secrets: baggage leaves in the headers of requests.

    Args:
        values: By key; of each value the first 128 characters count.
    """
    entries = {key: bounded(value) for key, value in values.items()}
    keys = current().keys
    get_current_span().set_attributes({key: value for key, value in entries.items() if key in keys})
    token = contexts.attach(with_entries(entries, contexts.get_current()))
    try:
        yield
    finally:
        contexts.detach(token)
