"""A module of the seeded application: an N+1 may be in a function far from the route."""

from typing import Any


async def names_of(db: Any, numbers: list[int]) -> list[str]:
    return [(await db.customers.find_one({"_id": number}))["name"] for number in numbers]
