"""An application with seeded faults in how its routes use the database, and how each of them is to be named."""

import asyncio
import inspect
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

from fastapi import BackgroundTasks, Depends, FastAPI, Request
from pymongo import UpdateOne
from pymongo.errors import DuplicateKeyError
from starlette.concurrency import run_in_threadpool
from starlette.middleware.base import RequestResponseEndpoint
from starlette.responses import Response, StreamingResponse

from otel_monitoring.tracing import traced
from tests.integration import seeded_helper

CANARY = "canary7f3a"
"""It is in every value that the application sends."""
MANY = 12_000

Routes = dict[str, Any]
Handler = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """A seeded fault.

    Attributes:
        name: Path of the route, without the slash.
        kind: `repeated`, `slow`, `scan`, `hot` or `retry`.
        named: Whether the block `database.routes` names it.
        handler: Makes the route, given the databases.
    """

    name: str
    kind: str
    handler: Handler
    named: Callable[[Routes], bool]


def _repeated(
    name: str, operation: str, collection: str, shape: str, line: str, *, kind: str = "request", source: str = ""
) -> Callable[[Routes], bool]:
    def named(routes: Routes) -> bool:
        return any(
            (one["kind"], one["name"], one["operation"], one["collection"], one["shape"])
            == (kind, source or f"GET /{name}", operation, collection, shape)
            and one["caller"] is not None
            and _marked(one["caller"], line)
            for one in routes["repeated"]
        )

    return named


def _marked(caller: str, mark: str) -> bool:
    """Whether the line has the comment `# mark`."""
    file, _, number = caller.rpartition(":")
    module = seeded_helper if file == "tests/integration/seeded_helper.py" else inspect.getmodule(Case)
    lines = inspect.getsource(module).splitlines()  # type: ignore[arg-type]
    expected = "tests/integration/seeded_helper.py" if module is seeded_helper else "tests/integration/seeded.py"
    return file == expected and mark in lines[int(number) - 1]


def _shape(
    group: str, name: str, operation: str, collection: str, shape: str, plan: str = ""
) -> Callable[[Routes], bool]:
    def named(routes: Routes) -> bool:
        return any(
            (one["operation"], one["collection"], one["shape"]) == (operation, collection, shape)
            and {"kind": "request", "name": f"GET /{name}"} in one["routes"]
            and (one["plan"] or "").startswith(plan)
            for one in routes[group]
        )

    return named


def _hot(name: str, collection: str, operation: str) -> Callable[[Routes], bool]:
    def named(routes: Routes) -> bool:
        found = [one for one in routes["routes"] if one["name"] == f"GET /{name}"]
        hottest = found[0]["collections"][0] if found else {}
        return (
            (hottest.get("collection"), hottest.get("operation")) == (collection, operation)
            and hottest["share_percent"] > 50
            and collection in [one["collection"] for one in routes["collections"][:2]]
        )

    return named


def _retried(name: str) -> Callable[[Routes], bool]:
    return lambda routes: any(one["name"] == f"GET /{name}" and one["retries"] >= 1 for one in routes["routes"])


CASES: list[Case] = []


def case(kind: str, named: Callable[[Routes], bool]) -> Callable[[Handler], Handler]:
    def keep(handler: Handler) -> Handler:
        CASES.append(Case(handler.__name__, kind, handler, named))
        return handler

    return keep


class Databases:
    """What the routes use: the asynchronous database, the synchronous one, and the one behind the cutting proxy."""

    def __init__(self, db: Any, blocking: Any, cut: Any, proxy: "CuttingProxy") -> None:
        self.db = db
        self.blocking = blocking
        self.cut = cut
        self.proxy = proxy


# N+1


@case("repeated", _repeated("find_one_in_loop", "find", "customers", "{_id: ?}", "mark: loop"))
async def find_one_in_loop(to: Databases) -> None:
    for number in range(15):
        await to.db.customers.find_one({"_id": number})  # mark: loop


@case("repeated", _repeated("exactly_ten", "find", "customers", "{_id: ?}", "mark: ten"))
async def exactly_ten(to: Databases) -> None:
    for number in range(10):
        await to.db.customers.find_one({"_id": number})  # mark: ten


@case("repeated", _repeated("find_lists", "find", "orders", '{"customer.id": ?, status: {$in: ?}}', "mark: lists"))
async def find_lists(to: Databases) -> None:
    for number in range(12):
        query = {"status": {"$in": [CANARY, "new"]}, "customer.id": number}
        await to.db.orders.find(query).to_list(None)  # mark: lists


@case("repeated", _repeated("gathered", "find", "customers", "{name: ?}", "mark: gather"))
async def gathered(to: Databases) -> None:
    await asyncio.gather(*(to.db.customers.find_one({"name": f"{CANARY}{n}"}) for n in range(12)))  # mark: gather


@case("repeated", _repeated("in_tasks", "find", "customers", "{_id: ?, name: {$ne: ?}}", "mark: tasks"))
async def in_tasks(to: Databases) -> None:
    async def one(number: int) -> None:
        await to.db.customers.find_one({"_id": number, "name": {"$ne": CANARY}})  # mark: tasks

    for task in [asyncio.create_task(one(number)) for number in range(11)]:
        await task


@case(
    "repeated",
    _repeated(
        *("aggregates", "aggregate", "orders"),
        "[{$match: {customer.id: ?}}, {$group: {_id: ?, total: {$sum: ?}}}]".replace(
            "customer.id", '"customer.id"'
        ).replace("{$sum: ?}", "?"),
        "mark: aggregate",
    ),
)
async def aggregates(to: Databases) -> None:
    for number in range(10):
        pipeline = [{"$match": {"customer.id": number}}, {"$group": {"_id": CANARY, "total": {"$sum": "$total"}}}]
        await (await to.db.orders.aggregate(pipeline)).to_list(None)  # mark: aggregate


@case(
    "repeated",
    _repeated(
        "counts", "aggregate", "orders", '[{$match: {"customer.id": ?}}, {$group: {_id: ?, n: ?}}]', "mark: count"
    ),
)
async def counts(to: Databases) -> None:
    for number in range(10):
        await to.db.orders.count_documents({"customer.id": number})  # mark: count


@case("repeated", _repeated("distincts", "distinct", "orders", '{"customer.id": ?}', "mark: distinct"))
async def distincts(to: Databases) -> None:
    for number in range(10):
        await to.db.orders.distinct("status", {"customer.id": number})  # mark: distinct


@case("repeated", _repeated("insert_one_by_one", "insert", "events", "", "mark: insert"))
async def insert_one_by_one(to: Databases) -> None:
    for number in range(14):
        await to.db.events.insert_one({"number": number, CANARY: {"deep": [CANARY]}})  # mark: insert


@case("repeated", _repeated("update_one_by_one", "update", "orders", "{_id: ?}", "mark: update"))
async def update_one_by_one(to: Databases) -> None:
    for number in range(10):
        await to.db.orders.update_one({"_id": number}, {"$set": {"note": CANARY}})  # mark: update


@case("repeated", _repeated("replace_one_by_one", "update", "events", '{"key.?": ?}', "mark: replace"))
async def replace_one_by_one(to: Databases) -> None:
    for number in range(10):
        await to.db.events.replace_one({f"key.{number}@{CANARY}": 1}, {"note": CANARY})  # mark: replace


@case("repeated", _repeated("delete_one_by_one", "delete", "events", "{number: ?}", "mark: delete"))
async def delete_one_by_one(to: Databases) -> None:
    for number in range(10):
        await to.db.events.delete_one({"number": f"{CANARY}{number}"})  # mark: delete


@case("repeated", _repeated("find_and_modify", "findAndModify", "orders", "{_id: ?}, sort {total: ?}", "mark: modify"))
async def find_and_modify(to: Databases) -> None:
    for number in range(10):
        await to.db.orders.find_one_and_update(  # mark: modify
            {"_id": number}, {"$set": {"note": CANARY}}, sort={"total": 1}
        )


@case("repeated", _repeated("two_levels", "find", "products", "{sku: ?}", "mark: inner"))
async def two_levels(to: Databases) -> None:
    for number in range(4):
        order = await to.db.orders.find_one({"_id": number})
        for item in order["items"]:
            await to.db.products.find_one({"sku": item})  # mark: inner


@case("repeated", _repeated("of_two_levels_the_outer", "find", "customers", "{_id: ?}", "mark: outer"))
async def of_two_levels_the_outer(to: Databases) -> None:
    for number in range(12):
        await to.db.customers.find_one({"_id": number})  # mark: outer
        await to.db.products.find({"sku": f"{CANARY}{number}"}).to_list(None)


@case("repeated", _repeated("blocking_route", "find", "customers", "{_id: ?}", "mark: blocking"))
def blocking_route(to: Databases) -> None:
    for number in range(10):
        to.blocking.customers.find_one({"_id": number})  # mark: blocking


@case("repeated", _repeated("in_threads", "find", "customers", "{_id: ?}", "mark: threads"))
async def in_threads(to: Databases) -> None:
    for number in range(10):
        await run_in_threadpool(to.blocking.customers.find_one, {"_id": number})  # mark: threads


@case("repeated", _repeated("in_another_module", "find", "customers", "{_id: ?}", "find_one"))
async def in_another_module(to: Databases) -> None:
    await seeded_helper.names_of(to.db, list(range(11)))


@case("repeated", _repeated("mixed_shapes", "find", "customers", "{name: ?}", "mark: mixed"))
async def mixed_shapes(to: Databases) -> None:
    for number in range(10):
        await to.db.customers.find_one({"_id": number})
        await to.db.customers.find_one({"name": f"{CANARY}{number}"})  # mark: mixed


@case("repeated", _repeated("some_fail", "insert", "customers", "", "mark: fail"))
async def some_fail(to: Databases) -> None:
    for number in range(10):
        with suppress(DuplicateKeyError):
            await to.db.customers.insert_one({"_id": number, "name": CANARY})  # mark: fail


@case("repeated", _repeated("bulk_by_bulk", "insert", "events", "", "mark: bulk"))
async def bulk_by_bulk(to: Databases) -> None:
    for number in range(10):
        await to.db.events.insert_many([{"number": number, "note": CANARY} for _ in range(2)])  # mark: bulk


@case("repeated", _repeated("updates_by_bulk", "update", "orders", "{_id: ?}", "mark: updates"))
async def updates_by_bulk(to: Databases) -> None:
    for number in range(10):
        changes = [UpdateOne({"_id": number + one}, {"$set": {"note": CANARY}}) for one in range(3)]
        await to.db.orders.bulk_write(changes)  # mark: updates


@case("repeated", _repeated("in_middleware", "find", "customers", "{_id: ?}", "mark: middleware"))
async def in_middleware(to: Databases) -> None:
    """The middleware asks again and again: see `application`."""


async def before(to: Databases) -> None:
    for number in range(10):
        await to.db.customers.find_one({"_id": number})  # mark: middleware


@case("repeated", _repeated("in_library_threads", "find", "customers", "{_id: ?}", "mark: library"))
async def in_library_threads(to: Databases) -> None:
    for number in range(10):
        await asyncio.to_thread(to.blocking.customers.find_one, {"_id": number})  # mark: library


@case("repeated", _repeated("in_own_threads", "find", "customers", "{_id: ?}", "mark: own threads"))
async def in_own_threads(to: Databases) -> None:
    """Threads that get a copy of the context."""
    with ThreadPoolExecutor(2) as pool:
        for number in range(10):
            query = {"_id": number}
            pool.submit(copy_context().run, to.blocking.customers.find_one, query).result()  # mark: own threads


@case(
    "repeated",
    _repeated("in_background", "find", "customers", "{_id: ?}", "mark: background", kind="background"),
)
async def in_background(to: Databases, tasks: BackgroundTasks) -> None:
    async def later() -> None:
        for number in range(10):
            await to.db.customers.find_one({"_id": number})  # mark: background

    tasks.add_task(later)


@case("repeated", _repeated("streamed", "find", "customers", "{_id: ?}", "mark: stream"))
async def streamed(to: Databases) -> StreamingResponse:
    async def body() -> AsyncIterator[str]:
        for number in range(10):
            await to.db.customers.find_one({"_id": number})  # mark: stream
            yield "x"

    return StreamingResponse(body())


@case("repeated", _repeated("in_dependency", "find", "customers", "{_id: ?}", "mark: dependency"))
async def in_dependency(to: Databases) -> None:
    for number in range(10):
        await to.db.customers.find_one({"_id": number})  # mark: dependency


@case(
    "repeated",
    _repeated(
        *("in_operation", "find", "orders", "{_id: ?}", "mark: operation"), kind="operation", source="nightly.billing"
    ),
)
async def in_operation(to: Databases) -> None:
    """The operation is run outside of requests: see `nightly`."""


@traced("nightly.billing")
def nightly(db: Any) -> None:
    for number in range(13):
        db.orders.find_one({"_id": number})  # mark: operation


# Slow shapes: `lines` has no index, and many documents


@case("slow", _shape("slow", "slow_find", "find", "lines", "{text: {$regex: ?}}"))
async def slow_find(to: Databases) -> None:
    await to.db.lines.find({"text": {"$regex": f"{CANARY}.*x$"}}).to_list(None)


@case("slow", _shape("slow", "slow_sort", "find", "lines", "{kind: ?}, sort {text: ?}"))
async def slow_sort(to: Databases) -> None:
    await to.db.lines.find({"kind": 3}).sort("text", -1).to_list(None)


@case("slow", _shape("slow", "slow_group", "aggregate", "lines", "[{$group: {_id: ?, count: ?}}, {$sort: {count: ?}}]"))
async def slow_group(to: Databases) -> None:
    pipeline = [{"$group": {"_id": "$kind", "count": {"$sum": 1}}}, {"$sort": {"count": -1}}]
    await (await to.db.lines.aggregate(pipeline)).to_list(None)


@case(
    "slow", _shape("slow", "slow_count", "aggregate", "lines", "[{$match: {text: {$gt: ?}}}, {$group: {_id: ?, n: ?}}]")
)
async def slow_count(to: Databases) -> None:
    await to.db.lines.count_documents({"text": {"$gt": CANARY}}, comment=CANARY)


@case("slow", _shape("slow", "slow_update", "update", "lines", "{text: ?}"))
async def slow_update(to: Databases) -> None:
    await to.db.lines.update_many({"text": CANARY}, {"$set": {"note": CANARY}})


@case("slow", _shape("slow", "slow_arrays", "find", "lines", "{tags: {$elemMatch: {name: ?, value: {$gt: ?}}}}"))
async def slow_arrays(to: Databases) -> None:
    query = {"tags": {"$elemMatch": {"name": CANARY, "value": {"$gt": 2}}}}
    await to.db.lines.find(query, comment=CANARY).to_list(None)


# Collection scans, slow or not


@case("scan", _shape("scans", "scan_find", "find", "orders", "{status: ?}", "collection scan"))
async def scan_find(to: Databases) -> None:
    await to.db.orders.find_one({"status": CANARY})


@case("scan", _shape("scans", "scan_or", "find", "orders", "{$or: [{note: ?}, {status: ?}]}", "collection scan"))
async def scan_or(to: Databases) -> None:
    await to.db.orders.find({"$or": [{"status": CANARY}, {"note": CANARY}]}).to_list(None)


@case(
    "scan",
    _shape(
        "scans",
        "scan_aggregate",
        "aggregate",
        "orders",
        "[{$match: {total: {$gt: ?}}}, {$limit: ?}]",
        "collection scan",
    ),
)
async def scan_aggregate(to: Databases) -> None:
    await (await to.db.orders.aggregate([{"$match": {"total": {"$gt": 7}}}, {"$limit": 1}])).to_list(None)


@case("scan", _shape("scans", "scan_update", "update", "orders", "{note: ?}", "collection scan"))
async def scan_update(to: Databases) -> None:
    await to.db.orders.update_one({"note": f"{CANARY}!"}, {"$set": {"status": "x"}})


@case("scan", _shape("scans", "scan_delete", "delete", "orders", "{reason: ?}", "collection scan"))
async def scan_delete(to: Databases) -> None:
    await to.db.orders.delete_many({"reason": CANARY})


# Hot collections


@case("hot", _hot("hot_read", "lines", "find"))
async def hot_read(to: Databases) -> None:
    await to.db.customers.find_one({"_id": 1})
    await to.db.lines.find({"text": {"$regex": "hot"}}).to_list(None)


@case("hot", _hot("hot_write", "lines", "update"))
async def hot_write(to: Databases) -> None:
    await to.db.products.find_one({"sku": CANARY})
    await to.db.lines.update_many({"kind": -1}, {"$set": {"note": CANARY}})


# Retries: the proxy ends the connection instead of passing the command on


@case("retry", _retried("retried_find"))
async def retried_find(to: Databases) -> None:
    to.proxy.cut_at(b"retried_find")
    await to.cut.customers.find_one({"name": "retried_find"})


@case("retry", _retried("retried_aggregate"))
async def retried_aggregate(to: Databases) -> None:
    to.proxy.cut_at(b"retried_aggregate")
    await (await to.cut.customers.aggregate([{"$match": {"name": "retried_aggregate"}}])).to_list(None)


@case("retry", _retried("retried_distinct"))
async def retried_distinct(to: Databases) -> None:
    to.proxy.cut_at(b"retried_distinct")
    await to.cut.customers.distinct("name", {"name": "retried_distinct"})


def application(to: Databases) -> FastAPI:
    """The application, with one route for each case."""

    @asynccontextmanager
    async def closing(_: FastAPI) -> AsyncIterator[None]:
        yield
        await to.db.client.close()
        await to.cut.client.close()

    app = FastAPI(title="seeded", lifespan=closing)

    @app.middleware("http")
    async def asking(request: Request, call_next: RequestResponseEndpoint) -> Response:
        if request.url.path == "/in_middleware":
            await before(to)
        return await call_next(request)

    for one in CASES:
        if one.name == "in_dependency":

            @app.get("/in_dependency", dependencies=[Depends(_with(one.handler, to))])
            async def depends() -> None:
                """What it needs asks again and again."""

        else:
            app.get(f"/{one.name}", name=one.name)(_with(one.handler, to))
    return app


def _with(handler: Handler, to: Databases) -> Handler:
    if "tasks" in inspect.signature(handler).parameters:

        async def with_tasks(tasks: BackgroundTasks) -> Any:
            return await handler(to, tasks)

        return with_tasks
    if inspect.iscoroutinefunction(handler):

        async def awaited() -> Any:
            return await handler(to)

        return awaited

    def called() -> Any:
        return handler(to)

    return called


def fill(db: Any) -> None:
    """The documents, by a synchronous database."""
    db.customers.insert_many([{"_id": n, "name": f"{CANARY}{n}"} for n in range(20)])
    db.products.insert_many([{"sku": f"{CANARY}{n}"} for n in range(20)])
    db.orders.insert_many(
        [
            {
                "_id": n,
                "status": CANARY,
                "customer": {"id": n % 5},
                "items": [f"{CANARY}{i}" for i in range(4)],
                "total": n,
            }
            for n in range(200)
        ]
    )
    db.orders.create_index("customer.id")
    lines = ({"text": f"{CANARY}{n}" * 5, "kind": n % 7, "tags": [{"name": "a", "value": 1}]} for n in range(MANY))
    db.lines.insert_many(lines)


class CuttingProxy:
    """A TCP proxy that ends a connection in place of passing on the first message with a mark."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._marks: set[bytes] = set()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_at(self, mark: bytes) -> None:
        self._marks.add(mark)

    def close(self) -> None:
        self._listener.close()
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self._sockets += [near, far]
                threading.Thread(target=self._carry, args=(near, far, True), daemon=True).start()
                threading.Thread(target=self._carry, args=(far, near, False), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, commands: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                found = [mark for mark in tuple(self._marks) if mark in data] if commands else []
                if found:
                    self._marks.difference_update(found)
                    break
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@contextmanager
def cutting(target: tuple[str, int]) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()


def missing(routes: Routes, cases: Iterable[Case] = CASES) -> list[str]:
    """The cases that are not named."""
    return [one.name for one in cases if not one.named(routes)]
