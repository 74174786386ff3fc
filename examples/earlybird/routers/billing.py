"""Billing: delivered orders become billing records."""

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field

from examples.earlybird import providers
from examples.earlybird.auth import StaffOnly
from examples.earlybird.charge import bill
from examples.earlybird.database import Db

router = APIRouter(prefix="/billing", tags=["billing"], dependencies=[StaffOnly])


class Run(BaseModel):
    max_orders: int = Field(5, ge=1, le=100)


class RunResult(BaseModel):
    billed: int
    declined: int


class Report(BaseModel):
    customers: int
    total_cents: int
    download: str


@router.post("/run", response_model=RunResult)
async def run(run: Run, db: Db) -> RunResult:
    result = RunResult(billed=0, declined=0)
    for _ in range(run.max_orders):
        # Claimed in one step, so that two simultaneous runs never bill an order twice.
        order = await db.orders.find_one_and_update(
            {"status": "delivered", "billing": "open"}, {"$set": {"billing": "claimed"}}
        )
        if order is None:
            break
        try:
            outcome = await bill(db, order)
        except providers.PaymentProviderError as error:
            await db.orders.update_one({"_id": order["_id"]}, {"$set": {"billing": "open"}})
            raise HTTPException(502, str(error)) from error
        result.billed += outcome == "billed"
        result.declined += outcome == "declined"
    return result


@router.get("/report", response_model=Report)
async def report(db: Db) -> Report:
    cursor = await db.billing_records.aggregate(
        [{"$group": {"_id": "$user_id", "cents": {"$sum": "$cents"}}}, {"$sort": {"cents": -1}}]
    )
    customers = await cursor.to_list()
    return Report(
        customers=len(customers),
        total_cents=sum(customer["cents"] for customer in customers),
        download=await providers.render_report(len(customers)),
    )
