"""The notifier mails customers about billed orders: `MONGODB_URI=mongodb://… python -m examples.earlybird.notifier`."""

import asyncio
import logging

from pymongo.asynchronous.database import AsyncDatabase

from examples.earlybird import events, providers, worker
from examples.earlybird.database import Document
from otel_monitoring import MonitoringService
from otel_monitoring.tracing import continued

logger = logging.getLogger("earlybird.notifier")


def prepare(monitoring: MonitoringService, db: AsyncDatabase[Document]) -> events.Handler:
    notifications_sent = monitoring.meter.create_counter("notifications.sent", unit="{notification}")

    async def handle(event: Document) -> None:
        with continued(event, "notification.send"):
            order = await db.orders.find_one({"_id": event["order_id"]})
            customer = await db.users.find_one({"_id": order["user_id"]}) if order else None
            if order is None or customer is None:
                raise LookupError(f"no order {event['order_id']}, or nobody who placed it")
            await providers.send_email(customer["email"], f"Your order is {order['billing']}")
            notifications_sent.add(1)
            logger.info("customer notified")
            await events.mark(db, event, "done")

    return handle


def main() -> None:
    asyncio.run(worker.serve("earlybird-notifier", events.ORDER_BILLED, prepare))


if __name__ == "__main__":
    main()
