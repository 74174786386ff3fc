"""The application under test: resources in included routers, path parameters, a dependency, models, JSON.

Only FastAPI and pydantic are imported: it runs in the peers' environments as well.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel

from tests.benchmarks.client import Call

ROUTES_PER_RESOURCE = 5


class Item(BaseModel):
    """What is asked for."""

    name: str
    quantity: int = 1
    price: float
    tags: list[str] = []


class StoredItem(Item):
    """What is answered."""

    id: int
    owner: str


async def current_user(
    authorization: Annotated[str | None, Header()] = None, x_status: Annotated[int | None, Header()] = None
) -> str:
    """Who asks; `X-Status` makes any route answer with that status."""
    if x_status is not None:
        raise HTTPException(x_status, "as asked")
    return (authorization or "anonymous").removeprefix("Bearer ")


User = Annotated[str, Depends(current_user)]


def make_app(routes: int, **options: Any) -> FastAPI:
    """An application with `routes` routes, a multiple of five, and one more: `/empty`."""
    app = FastAPI(title="benchmark", **options)
    for number in range(routes // ROUTES_PER_RESOURCE):
        app.include_router(_resource(number), prefix="/v1")

    @app.get("/empty")
    async def empty() -> dict[str, str]:
        return {}

    return app


def _resource(number: int) -> APIRouter:
    router = APIRouter(prefix=f"/resource-{number}", tags=[f"resource-{number}"])

    @router.get("/items")
    async def list_items(user: User, limit: int = 3) -> list[StoredItem]:
        return [StoredItem(id=i, owner=user, name=f"item {i}", price=1.5 * i) for i in range(limit)]

    @router.post("/items", status_code=201)
    async def create_item(item: Item, user: User) -> StoredItem:
        return StoredItem(id=1, owner=user, **item.model_dump())

    @router.get("/items/{item_id}")
    async def read_item(item_id: int, user: User) -> StoredItem:
        return StoredItem(id=item_id, owner=user, name="an item", price=9.5, tags=["a", "b"])

    @router.put("/items/{item_id}")
    async def replace_item(item_id: int, item: Item, user: User) -> StoredItem:
        return StoredItem(id=item_id, owner=user, **item.model_dump())

    @router.delete("/items/{item_id}")
    async def delete_item(item_id: int, user: User) -> dict[str, bool]:
        return {"deleted": True}

    return router


def calls(routes: int) -> list[Call]:
    """One call for each route."""
    body = b'{"name":"a thing","quantity":3,"price":12.5,"tags":["new","sale"]}'
    found: list[Call] = []
    for number in range(routes // ROUTES_PER_RESOURCE):
        items = f"/v1/resource-{number}/items"
        item = f"{items}/{1000 + number}"
        found += [
            Call("GET", items, query=b"limit=3"),
            Call("POST", items, body),
            Call("GET", item),
            Call("PUT", item, body),
            Call("DELETE", item),
        ]
    return found
