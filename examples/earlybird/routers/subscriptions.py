"""Subscriptions: the same breakfast on every chosen weekday."""

from typing import Literal

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field
from pymongo import ReturnDocument

from examples.earlybird.auth import CurrentUser
from examples.earlybird.database import Db, Document, new_id
from examples.earlybird.routers.orders import Item

router = APIRouter(prefix="/subscriptions", tags=["subscriptions"])

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class Plan(BaseModel):
    items: list[Item] = Field(min_length=1, max_length=20)
    days: set[Weekday] = Field(min_length=1)


class Subscription(Plan):
    id: str = Field(validation_alias="_id")
    paused: bool


class Pause(BaseModel):
    paused: bool


@router.post("/", status_code=201, response_model=Subscription)
async def subscribe(plan: Plan, user: CurrentUser, db: Db) -> Document:
    subscription = {"_id": new_id(), "user_id": user["_id"], **plan.model_dump(mode="json"), "paused": False}
    await db.subscriptions_v2.insert_one(subscription)
    return subscription


@router.get("/", response_model=list[Subscription])
async def list_subscriptions(user: CurrentUser, db: Db) -> list[Document]:
    subscriptions: list[Document] = await db.subscriptions_v2.find({"user_id": user["_id"]}).to_list()
    return subscriptions


@router.patch("/{subscription_id}", response_model=Subscription)
async def pause(subscription_id: str, change: Pause, user: CurrentUser, db: Db) -> Document:
    subscription: Document | None = await db.subscriptions_v2.find_one_and_update(
        {"_id": subscription_id, "user_id": user["_id"]},
        {"$set": {"paused": change.paused}},
        return_document=ReturnDocument.AFTER,
    )
    if subscription is None:
        raise HTTPException(404, "No such subscription")
    return subscription
