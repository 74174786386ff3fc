"""Events as documents: one process stores them, another handles them, and the document carries the trace along."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from opentelemetry.instrumentation.utils import suppress_instrumentation
from pymongo import ASCENDING, ReturnDocument
from pymongo.asynchronous.database import AsyncDatabase

from examples.earlybird.database import Document, new_id, now
from otel_monitoring.tracing import carry

DELIVERY_PLANNED = "delivery.planned"
ORDER_BILLED = "order.billed"

IDLE_SECONDS = 0.1

logger = logging.getLogger("earlybird.events")

Handler = Callable[[Document], Awaitable[None]]


async def publish(db: AsyncDatabase[Document], kind: str, order_id: str) -> None:
    event = {"_id": new_id(), "kind": kind, "order_id": order_id, "status": "new", "created_at": now()}
    await db.events.insert_one(carry(event))


async def mark(db: AsyncDatabase[Document], event: Document, status: str) -> None:
    await db.events.update_one({"_id": event["_id"]}, {"$set": {"status": status}})


async def handle_all(db: AsyncDatabase[Document], kind: str, handle: Handler, stop: asyncio.Event) -> None:
    """Handle the events of a kind as they come, until `stop` is set. Events that fail are marked `failed`."""
    while not stop.is_set():
        event = await _claim(db, kind)
        if event is None:
            await _wait(stop)
            continue
        try:
            await handle(event)
        except Exception:
            logger.exception("event %s failed", event["_id"])
            await mark(db, event, "failed")


async def _claim(db: AsyncDatabase[Document], kind: str) -> Document | None:
    with suppress_instrumentation():  # polling would make ten spans a second without information
        found: Document | None = await db.events.find_one_and_update(
            {"kind": kind, "status": "new"},
            {"$set": {"status": "claimed"}},
            sort=[("created_at", ASCENDING)],
            return_document=ReturnDocument.AFTER,
        )
    return found


async def _wait(stop: asyncio.Event) -> None:
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(stop.wait(), IDLE_SECONDS)
