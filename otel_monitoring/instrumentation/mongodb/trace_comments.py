"""The trace context in the `comment` of commands, by which the server's profiler and log name the trace.

PyMongo has no public way to it: its listeners get a command when it has been encoded. Every command passes its client's
`_send_cluster_time` before, in the synchronous and in the asynchronous client.
"""

from collections.abc import MutableMapping
from typing import Any, Final

from opentelemetry.trace import get_current_span

from otel_monitoring import seams
from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.mongodb.pymongo_seam import Client

_METHOD: Final = "_send_cluster_time"
_WITH_COMMENT: Final = frozenset(
    ("aggregate", "bulkWrite", "count", "delete", "distinct", "find", "findAndModify", "insert", "update")
)
_EVERY_COMMAND: Final = 9
"""The wire version of MongoDB 4.4, the first that takes a comment with every command."""
_guard: Final = fail_open("comments of database commands")


def add_comments(client: Client) -> None:
    """Have the commands of `client` carry the trace context, once. A comment of the application's own stays."""
    with seams.MONGO_COMMENTS:
        if isinstance(getattr(client, _METHOD), _Commented):
            return
        vars(client)[_METHOD] = _Commented(client, getattr(client, _METHOD))


def remove_comments(client: Client) -> None:
    """Undo `add_comments`."""
    with seams.MONGO_COMMENTS:
        if isinstance(vars(client).get(_METHOD), _Commented):
            del vars(client)[_METHOD]


class _Commented:
    """Takes the place of the client's method, and adds the comment to the command that it gets."""

    def __init__(self, client: Client, original: Any) -> None:
        self._client = client
        self._original = original

    def __call__(self, command: MutableMapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        try:
            if "comment" not in command and next(iter(command)) in _WITH_COMMENT:
                self._comment(command)
        except Exception as error:  # noqa: BLE001
            _guard.caught(error)
        return self._original(command, *args, **kwargs)

    def _comment(self, command: MutableMapping[str, Any]) -> None:
        context = get_current_span().get_span_context()
        if not (context.is_valid and context.trace_flags.sampled):
            return
        version = self._client.topology_description.common_wire_version
        if version is not None and version >= _EVERY_COMMAND:
            trace, span = f"{context.trace_id:032x}", f"{context.span_id:016x}"
            command["comment"] = f"traceparent='00-{trace}-{span}-{context.trace_flags:02x}'"
