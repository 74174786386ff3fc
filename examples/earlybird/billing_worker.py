"""The billing worker charges for orders: `MONGODB_URI=mongodb://… python -m examples.earlybird.billing_worker`."""

import asyncio
import logging

from pymongo.asynchronous.database import AsyncDatabase

from examples.earlybird import events, worker
from examples.earlybird.charge import bill
from examples.earlybird.database import Document
from otel_monitoring import MonitoringService
from otel_monitoring.tracing import continued

logger = logging.getLogger("earlybird.billing")


def prepare(monitoring: MonitoringService, db: AsyncDatabase[Document]) -> events.Handler:
    orders_billed = monitoring.meter.create_counter("orders.billed", unit="{order}")

    async def handle(event: Document) -> None:
        with continued(event, "billing.run"):
            order = await db.orders.find_one({"_id": event["order_id"]})
            if order is None:
                raise LookupError(f"no order {event['order_id']}")
            outcome = await bill(db, order)
            orders_billed.add(1, {"outcome": outcome})
            logger.info("order %s", outcome)
            await events.publish(db, events.ORDER_BILLED, order["_id"])
            await events.mark(db, event, "done")

    return handle


def main() -> None:
    asyncio.run(worker.serve("earlybird-billing", events.DELIVERY_PLANNED, prepare))


if __name__ == "__main__":
    main()
