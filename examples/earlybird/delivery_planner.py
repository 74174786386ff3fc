"""Plans the delivery of a new order, in this process or by the delivery service at `DELIVERY_URL`."""

from typing import Protocol

import httpx
from pymongo.asynchronous.database import AsyncDatabase

from examples.earlybird.database import Document
from otel_monitoring.alerts import AlertType
from otel_monitoring.tracing import traced


class DeliveryServiceError(Exception):
    pass


class Planner(Protocol):
    async def plan(self, delivery: Document) -> None: ...


class LocalPlanner:
    def __init__(self, db: AsyncDatabase[Document]) -> None:
        self._db = db

    async def plan(self, delivery: Document) -> None:
        await self._db.deliveries.insert_one(delivery)


class RemotePlanner:
    """Asks the delivery service. The request's headers carry the trace there."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    @traced("delivery.plan", alert=AlertType.DELIVERY_ISSUE)
    async def plan(self, delivery: Document) -> None:
        try:
            answer = await self._client.post("/deliveries/", json=delivery)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise DeliveryServiceError(f"the delivery service did not take it: {error}") from error
