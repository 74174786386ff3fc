"""Orders: placed by customers before the night, delivered before breakfast."""

import logging
from collections.abc import AsyncIterator
from datetime import date, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, BackgroundTasks, Depends, HTTPException, Query, Request
from pydantic import BaseModel, Field
from pymongo import DESCENDING, ReturnDocument

from examples.earlybird import providers
from examples.earlybird.auth import CurrentUser, StaffOnly
from examples.earlybird.database import Db, Document, new_id, now
from examples.earlybird.delivery_planner import DeliveryServiceError
from otel_monitoring.monitoring import get_monitoring
from otel_monitoring.tracing import tagged

logger = logging.getLogger("earlybird.orders")

router = APIRouter(prefix="/orders", tags=["orders"])

PRICES = {"bread": 320, "butter": 260, "coffee": 690, "eggs": 340, "milk": 140, "newspaper": 250}  # cents


class Item(BaseModel):
    product: Literal["bread", "butter", "coffee", "eggs", "milk", "newspaper"]
    quantity: int = Field(ge=1, le=20)


class NewOrder(BaseModel):
    items: list[Item] = Field(min_length=1, max_length=20)
    deliver_on: date


class Order(BaseModel):
    id: str = Field(validation_alias="_id")
    delivery_id: str
    items: list[Item]
    total_cents: int
    status: str
    deliver_on: date
    created_at: datetime


class StatusChange(BaseModel):
    status: Literal["packed", "on_the_way", "cancelled"]


async def accepting_orders() -> None:
    """Refuse orders with 503 while the service is unhealthy, because they could not be stored."""
    monitor = get_monitoring()
    if monitor and (await monitor.get_health_status())["status"] == "unhealthy":
        raise HTTPException(503, "Service temporarily unavailable")


async def new_order_id() -> AsyncIterator[str]:
    """Make the order's id first, so that every span and log record of the request carries it, in all services."""
    order_id = new_id()
    with tagged({"order.id": order_id}):
        yield order_id


@router.post(
    "/", status_code=201, response_model=Order, dependencies=[Depends(new_order_id), Depends(accepting_orders)]
)
async def create_order(
    request: Request,
    order_id: Annotated[str, Depends(new_order_id)],
    new: NewOrder,
    user: CurrentUser,
    db: Db,
    background: BackgroundTasks,
) -> Document:
    total = sum(PRICES[item.product] * item.quantity for item in new.items)
    try:
        payment = await providers.charge(total)
    except providers.PaymentDeclined as error:
        raise HTTPException(402, str(error)) from error
    except providers.PaymentProviderError as error:
        raise HTTPException(502, str(error)) from error

    order = {
        "_id": order_id,
        "delivery_id": new_id(),
        "user_id": user["_id"],
        **new.model_dump(mode="json"),
        "total_cents": total,
        "payment": payment,
        "status": "placed",
        "billing": "open",
        "created_at": now(),
    }
    await db.orders.insert_one(order)
    delivery = {
        "_id": order["delivery_id"],
        "order_id": order["_id"],
        "address": user["address"],
        "deliver_on": order["deliver_on"],
        "status": "planned",
    }
    try:
        await request.app.state.planner.plan(delivery)
    except DeliveryServiceError as error:
        await db.orders.update_one({"_id": order["_id"]}, {"$set": {"status": "cancelled"}})
        raise HTTPException(502, str(error)) from error
    request.app.state.counters.orders_placed.add(1)
    logger.info("order placed")
    background.add_task(providers.send_email, user["email"], "Your order")
    return order


@router.get("/", response_model=list[Order])
async def list_orders(user: CurrentUser, db: Db, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> list[Document]:
    newest = db.orders.find({"user_id": user["_id"]}).sort("created_at", DESCENDING)
    orders: list[Document] = await newest.limit(limit).to_list()
    return orders


@router.get("/{order_id}", response_model=Order)
async def get_order(order_id: str, user: CurrentUser, db: Db) -> Document:
    order = await db.orders.find_one({"_id": order_id, "user_id": user["_id"]})
    if order is None:
        raise HTTPException(404, "No such order")
    return order


@router.patch("/{order_id}/status", response_model=Order, dependencies=[StaffOnly])
async def change_status(order_id: str, change: StatusChange, db: Db) -> Document:
    order: Document | None = await db.orders.find_one_and_update(
        {"_id": order_id, "status": {"$ne": "delivered"}},
        {"$set": {"status": change.status}},
        return_document=ReturnDocument.AFTER,
    )
    if order is None:
        raise HTTPException(404, "No such order on its way")
    return order
