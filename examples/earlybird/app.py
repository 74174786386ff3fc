"""The EarlyBird API: `MONGODB_URI=mongodb://… uvicorn examples.earlybird.app:app`."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pymongo import AsyncMongoClient
from pymongo.errors import ConnectionFailure

from examples.earlybird.database import Document, create_indexes
from examples.earlybird.routers import billing, deliveries, orders, subscriptions, users
from otel_monitoring import MonitoringService


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    await create_indexes(app.state.db)
    yield
    await app.state.db.client.close()


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

    MonitoringService(db, check_interval=5).instrument(app)
    return app


app = create_app(os.environ.get("MONGODB_URI", "mongodb://localhost:27017"))
