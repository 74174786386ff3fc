"""Deliveries: listed and confirmed by couriers."""

from datetime import date

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, Field

from examples.earlybird import providers
from examples.earlybird.auth import StaffOnly
from examples.earlybird.database import Db, Document, now

router = APIRouter(prefix="/deliveries", tags=["deliveries"], dependencies=[StaffOnly])


class Delivery(BaseModel):
    id: str = Field(validation_alias="_id")
    order_id: str
    address: str
    deliver_on: date
    status: str


class Confirmation(BaseModel):
    received_by: str = Field(min_length=1, max_length=100)


@router.get("/", response_model=list[Delivery])
async def list_deliveries(deliver_on: date, db: Db) -> list[Document]:
    planned = db.deliveries.find({"deliver_on": deliver_on.isoformat(), "status": "planned"})
    deliveries: list[Document] = await planned.limit(50).to_list()
    return deliveries


@router.post("/{delivery_id}/confirm", response_model=Delivery)
async def confirm(delivery_id: str, confirmation: Confirmation, request: Request, db: Db) -> Document:
    delivery = await db.deliveries.find_one({"_id": delivery_id})
    if delivery is None:
        raise HTTPException(404, "No such delivery")
    changes = {
        "status": "delivered",
        "received_by": confirmation.received_by,
        "photo": await providers.store_photo(delivery_id),  # raises where the storage does not answer: 500
        "delivered_at": now(),
    }
    await db.deliveries.update_one({"_id": delivery_id}, {"$set": changes})
    await db.orders.update_one({"_id": delivery["order_id"]}, {"$set": {"status": "delivered"}})
    request.app.state.counters.deliveries_confirmed.add(1)
    return {**delivery, **changes}
