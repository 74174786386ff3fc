"""The trace context in the comment of commands, on real servers, with all kinds of client."""

from typing import Any

import pytest
from opentelemetry.trace import format_span_id, format_trace_id
from pymongo import InsertOne
from pymongo.monitoring import CommandListener

from otel_monitoring import seams
from tests.integration.test_mongodb import KINDS, database, done, server
from tests.mongodb_telemetry import Telemetry, telemetry

__all__ = ["server", "telemetry"]

pytestmark = [pytest.mark.integration, pytest.mark.anyio]


class Heard(CommandListener):
    """The comments of the commands of one client."""

    def __init__(self) -> None:
        self.comments: list[tuple[str, Any]] = []

    def started(self, event: Any) -> None:
        self.comments.append((event.command_name, event.command.get("comment")))

    def succeeded(self, event: Any) -> None:
        """Nothing."""

    def failed(self, event: Any) -> None:
        """Nothing."""


async def _everything(db: Any) -> None:
    await done(db.orders.insert_one({"_id": 1}))
    await done(db.orders.bulk_write([InsertOne({"_id": 2}), InsertOne({"_id": 3})]))
    await done(db.orders.find_one({"_id": 1}))
    await done(db.orders.update_one({"_id": 1}, {"$set": {"a": 1}}))
    await done(db.orders.find_one_and_update({"_id": 1}, {"$set": {"a": 2}}))
    await done(db.orders.count_documents({"a": 2}))
    await done(db.orders.distinct("a"))
    await done(db.orders.delete_many({}))
    await done(db.command("ping"))


@pytest.mark.parametrize("kind", KINDS)
async def test_commands_carry_the_trace(telemetry: Telemetry, server: Any, kind: str) -> None:
    heard = Heard()
    async with database(kind, server, event_listeners=[heard]) as db:
        instrumentation = telemetry.attach(db, trace_comments=True)
        await _everything(db)
        assert {comment for _, comment in heard.comments} == {None}, "there is no trace"
        heard.comments.clear()

        with telemetry.tracer_provider.get_tracer("test").start_as_current_span("request") as span:
            await _everything(db)
            await done(db.orders.find_one({"_id": 1}, comment="ours"))
        context = span.get_span_context()
        ids = f"{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}"
        of_trace = f"traceparent='00-{ids}-{context.trace_flags:02x}'"
        comments = dict(heard.comments[:-1])
        assert comments.pop("ping") is None
        assert set(comments.values()) == {of_trace}
        assert comments.keys() == {
            *("insert", "find", "update", "findAndModify", "aggregate", "distinct", "delete"),
        }
        assert heard.comments[-1] == ("find", "ours")

        instrumentation.detach()
        heard.comments.clear()
        with telemetry.tracer_provider.get_tracer("test").start_as_current_span("request"):
            await done(db.orders.find_one({"_id": 1}))
        assert heard.comments == [("find", None)]


async def test_without_the_seam_commands_go_on(
    telemetry: Telemetry, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seams.MONGO_COMMENTS, "error", None)
    async with database("async", server) as db:
        monkeypatch.setattr(type(db.client), "_send_cluster_time", None)
        monkeypatch.delattr(type(db.client), "_send_cluster_time")
        telemetry.attach(db, trace_comments=True)
        assert not seams.MONGO_COMMENTS.holds
        monkeypatch.undo()
        assert await db.orders.find_one({"_id": 7}) is None
