"""The delivery service plans deliveries for the order API and stores an event for the billing worker.

`MONGODB_URI=mongodb://… uvicorn examples.earlybird.delivery_service:app`
"""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date

from fastapi import FastAPI
from pydantic import BaseModel, Field
from pymongo import AsyncMongoClient

from examples.earlybird import events
from examples.earlybird.database import Document
from otel_monitoring import MonitoringService

logger = logging.getLogger("earlybird.delivery")


class NewDelivery(BaseModel):
    id: str = Field(alias="_id")
    order_id: str
    address: str
    deliver_on: date
    status: str


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    logging.getLogger("earlybird").setLevel(logging.INFO)
    yield
    await client.close()


client: AsyncMongoClient[Document] = AsyncMongoClient(
    os.environ.get("MONGODB_URI", "mongodb://localhost:27017"), tz_aware=True, serverSelectionTimeoutMS=2000
)
db = client["earlybird"]
app = FastAPI(title="earlybird-delivery", version="1.0.0", lifespan=lifespan)
monitoring = MonitoringService(db, check_interval=5, baggage_keys="order.id").instrument(app)
deliveries_planned = monitoring.meter.create_counter("deliveries.planned", unit="{delivery}")


@app.post("/deliveries/", status_code=201)
async def plan(delivery: NewDelivery) -> dict[str, str]:
    await db.deliveries.insert_one(delivery.model_dump(mode="json", by_alias=True))
    await events.publish(db, events.DELIVERY_PLANNED, delivery.order_id)
    deliveries_planned.add(1)
    logger.info("delivery planned for %s", delivery.deliver_on)
    return {"id": delivery.id}
