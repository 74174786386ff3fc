"""Which commands get the trace context as their comment; what servers make of it is in tests/integration."""

from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from otel_monitoring.instrumentation.mongodb.trace_comments import add_comments, remove_comments

SPAN = NonRecordingSpan(SpanContext(1, 2, False, TraceFlags(1)))
COMMENT = f"traceparent='00-{1:032x}-{2:016x}-01'"


def sent(command: dict[str, Any], *, version: int | None = 25) -> Any:
    """The comment with which a client of a server with this wire version sends the command."""
    topology = SimpleNamespace(common_wire_version=version)
    client: Any = SimpleNamespace(topology_description=topology, _send_cluster_time=lambda command, _: command)
    add_comments(client)
    add_comments(client)
    found = client._send_cluster_time(command, None).get("comment")
    remove_comments(client)
    return found


@pytest.mark.parametrize(
    "operation",
    ["aggregate", "bulkWrite", "count", "delete", "distinct", "find", "findAndModify", "insert", "update"],
)
def test_commands_that_take_a_comment_carry_the_trace(operation: str) -> None:
    assert sent({operation: "orders"}) is None
    with use_span(SPAN):
        assert sent({operation: "orders"}) == COMMENT
        assert sent({operation: "orders", "comment": "ours"}) == "ours"
        assert sent({operation: "orders"}, version=8) is None
        assert sent({operation: "orders"}, version=None) is None


@pytest.mark.parametrize("command", [{"ping": 1}, {"getMore": 7}, {"commitTransaction": 1}, {}])
def test_others_stay_as_they_are(command: dict[str, Any]) -> None:
    with use_span(SPAN):
        assert sent(command) is None
