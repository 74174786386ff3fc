"""The service of `load`: orders of a menu, from a database; with otel_monitoring if `MONITORED` is set.

Served by uvicorn: `tests.benchmarks.loaded_service:app`.
"""

import os
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from pymongo import AsyncMongoClient
from pymongo.errors import ConnectionFailure
from starlette.requests import Request

_DISHES = 40


class Dish(BaseModel):
    """A dish of the menu."""

    id: int
    name: str
    price: float
    tags: list[str]


def menu_from(first: int) -> list[Dish]:
    """Dishes with ids from `first` on."""
    return [Dish(id=first + i, name=f"dish {i}", price=1.5 * i, tags=["new", "hot"]) for i in range(_DISHES)]


async def unavailable(request: Request, error: Exception) -> JSONResponse:
    """The answer without a database."""
    return JSONResponse({"detail": "The database is not available"}, status_code=503)


def make_app() -> FastAPI:
    """The application."""
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(os.environ["MONGODB_URI"], serverSelectionTimeoutMS=500)
    db = client["shop"]
    app = FastAPI(title="orders")
    app.add_exception_handler(ConnectionFailure, unavailable)

    @app.get("/menu/{number}")
    async def menu(number: int) -> list[Dish]:
        return menu_from(number)

    @app.get("/orders/{number}")
    async def order(number: int) -> list[Dish]:
        await db.orders.find_one({"_id": number})
        return menu_from(number)

    @app.get("/failing")
    async def failing() -> None:
        raise HTTPException(503, "out of dishes")

    if os.environ.get("MONITORED"):
        from otel_monitoring import MonitoringService

        MonitoringService(db, access="open", service_name="orders").instrument(app)
    return app


app = make_app()
