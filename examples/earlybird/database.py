"""The database: the dependency that gives it to endpoints, ids, times, and the indexes of the collections."""

from datetime import datetime, timezone
from typing import Annotated, Any
from uuid import uuid4

from fastapi import Depends, Request
from pymongo import ASCENDING, DESCENDING
from pymongo.asynchronous.database import AsyncDatabase

Document = dict[str, Any]


def get_db(request: Request) -> AsyncDatabase[Document]:
    db: AsyncDatabase[Document] = request.app.state.db
    return db


Db = Annotated[AsyncDatabase[Document], Depends(get_db)]


def new_id() -> str:
    return uuid4().hex


def now() -> datetime:
    """The current time in whole milliseconds, as MongoDB stores it."""
    time = datetime.now(timezone.utc)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


async def create_indexes(db: AsyncDatabase[Document]) -> None:
    await db.users.create_index("email", unique=True)
    await db.users.create_index("token_hash", unique=True)
    await db.orders.create_index([("user_id", ASCENDING), ("created_at", DESCENDING)])
    await db.orders.create_index([("status", ASCENDING), ("billing", ASCENDING)])
    await db.subscriptions_v2.create_index("user_id")
    await db.deliveries.create_index([("deliver_on", ASCENDING), ("status", ASCENDING)])
    await db.billing_records.create_index("order_id", unique=True)
    await db.events.create_index([("kind", ASCENDING), ("status", ASCENDING), ("created_at", ASCENDING)])
