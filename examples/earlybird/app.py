"""The EarlyBird API: `MONGODB_URI=mongodb://… uvicorn examples.earlybird.app:app`.

With `DELIVERY_URL` another process plans the deliveries (delivery_service.py); without it the API does.
"""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from opentelemetry.metrics import Counter
from pymongo import AsyncMongoClient
from pymongo.errors import ConnectionFailure

from examples.earlybird.database import Document, create_indexes
from examples.earlybird.delivery_planner import LocalPlanner, RemotePlanner
from examples.earlybird.routers import billing, deliveries, orders, subscriptions, users
from otel_monitoring import MonitoringService


@dataclass(frozen=True)
class Counters:
    """The business metrics, exported like those of the monitoring."""

    orders_placed: Counter
    deliveries_confirmed: Counter


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    logging.getLogger("earlybird").setLevel(logging.INFO)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(app.state.db.client.close)
        await create_indexes(app.state.db)
        if url := os.environ.get("DELIVERY_URL"):
            client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=5, trust_env=False))
            app.state.planner = RemotePlanner(client)
        yield


async def database_unavailable(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "The database is not available"}, status_code=503, headers={"Retry-After": "2"})


def create_app(mongodb_uri: str) -> FastAPI:
    client: AsyncMongoClient[Document] = AsyncMongoClient(mongodb_uri, tz_aware=True, serverSelectionTimeoutMS=2000)
    db = client["earlybird"]

    app = FastAPI(title="EarlyBird Delivery Services", version="1.0.0", lifespan=lifespan)
    app.state.db = db
    app.add_exception_handler(ConnectionFailure, database_unavailable)
    for router in (users.router, orders.router, subscriptions.router, deliveries.router, billing.router):
        app.include_router(router, prefix="/api")

    monitoring = MonitoringService(db, check_interval=5, baggage_keys="order.id").instrument(app)
    app.state.planner = LocalPlanner(db)
    app.state.counters = Counters(
        orders_placed=monitoring.meter.create_counter("orders.placed", unit="{order}"),
        deliveries_confirmed=monitoring.meter.create_counter("deliveries.confirmed", unit="{delivery}"),
    )
    return app


app = create_app(os.environ.get("MONGODB_URI", "mongodb://localhost:27017"))
