"""Customers: sign-up and profile."""

import secrets

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field
from pymongo.errors import DuplicateKeyError

from examples.earlybird.auth import CurrentUser, StaffOnly, token_hash
from examples.earlybird.database import Db, Document, new_id, now

router = APIRouter(prefix="/users", tags=["users"])


class NewUser(BaseModel):
    email: str = Field(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$", max_length=254)
    name: str = Field(min_length=1, max_length=100)
    address: str = Field(min_length=5, max_length=300)


class User(BaseModel):
    id: str = Field(validation_alias="_id")
    email: str
    name: str
    address: str


class SignedUp(User):
    token: str


@router.post("/", status_code=201, response_model=SignedUp)
async def sign_up(new: NewUser, db: Db) -> Document:
    token = secrets.token_urlsafe(24)
    user = {"_id": new_id(), **new.model_dump(), "created_at": now()}
    try:
        await db.users.insert_one({**user, "token_hash": token_hash(token)})
    except DuplicateKeyError:
        raise HTTPException(409, "This e-mail address is already signed up") from None
    return {**user, "token": token}


@router.get("/me", response_model=User)
async def me(user: CurrentUser) -> Document:
    return user


@router.get("/{user_id}", response_model=User, dependencies=[StaffOnly])
async def get_user(user_id: str, db: Db) -> Document:
    user = await db.users.find_one({"_id": user_id})
    if user is None:
        raise HTTPException(404, "No such user")
    return user
