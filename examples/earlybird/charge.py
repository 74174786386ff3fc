"""Charges for one order, for the API's billing run and for the billing worker."""

from pymongo.asynchronous.database import AsyncDatabase

from examples.earlybird import providers
from examples.earlybird.database import Document, new_id, now
from otel_monitoring.alerts import AlertType
from otel_monitoring.tracing import traced


@traced("billing.charge", alert=AlertType.BILLING_FAILURE)
async def bill(db: AsyncDatabase[Document], order: Document) -> str:
    """Charge for `order` and store the record; returns `billed` or `declined`."""
    try:
        reference = await providers.charge(order["total_cents"])
    except providers.PaymentDeclined:
        outcome = "declined"  # a result, not a failure: it raises no alert
    else:
        outcome = "billed"
        record = {
            "_id": new_id(),
            "order_id": order["_id"],
            "user_id": order["user_id"],
            "cents": order["total_cents"],
            "reference": reference,
            "billed_at": now(),
        }
        await db.billing_records.insert_one(record)
    await db.orders.update_one({"_id": order["_id"]}, {"$set": {"billing": outcome}})
    return outcome
