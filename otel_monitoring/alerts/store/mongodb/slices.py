"""`MongoSlices`: the slices of the past, a document for each slice."""

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Any

from pymongo.database import Database
from pymongo.errors import BulkWriteError

from otel_monitoring.alerts.store.mongodb.documents import SLICES, Documents, are_duplicates, bytes_of, text_of
from otel_monitoring.errors import StoreError
from otel_monitoring.metrics.slices.table import Position, SliceRow

_LAST = 10**11 - 1
"""The largest time in a key, in Unix seconds."""
_ATTEMPTS = 5


class MongoSlices:
    """A `SliceTable` in a MongoDB database.

    A position has the rows that were written with it, so that it decides about them. They are then inserted as
    documents, whose keys end with the number of the position: the last one of a slot counts. Whoever reads a position
    inserts its rows, if need be: its writer may have been killed before it did.
    """

    routes_limit = 100  # rows with 100 routes take 40 MB in 30 days, in a database that is the application's

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._inserted = 0

    def position(self) -> Position | None:
        for _ in range(_ATTEMPTS):
            latest = self._documents.head().latest["slices"]
            if not latest.number:
                return None
            found = self._documents.content("slices", latest.number)
            if found is not None:
                content = json.loads(found[0])
                if self._inserted != latest.number:
                    self._insert([_decoded(row) for row in content["rows"]], latest.number)
                return Position(latest.version, b64decode(content["position"]))
        raise StoreError("MongoDB: the slices change faster than they can be read")

    def advance(self, before: str, position: Position, rows: Sequence[SliceRow]) -> bool:
        head = self._documents.head()
        latest = head.latest["slices"]
        if latest.version != before:
            return False
        number = latest.number + 1
        content = {"position": b64encode(position.content).decode(), "rows": [_encoded(row) for row in rows]}
        if not self._documents.add("slices", json.dumps(content).encode(), head, position.version):
            return False
        self._insert(rows, number)
        return True

    def read(self, tier: int, start: int, end: int, *, routes: bool = False) -> Sequence[SliceRow]:
        found = self._find(tier, start, end, None if routes else {"routes": 0})
        return [
            SliceRow(tier, at, bytes_of(row["service"]), bytes_of(row["routes"]) if routes else b"")
            for at, row in found.items()
        ]

    def starts(self, tier: int, start: int, end: int) -> Sequence[int]:
        return list(self._find(tier, start, end, {"_id": 1}))

    def prune(self, tier: int, start: int, end: int) -> None:
        whole = self._span(tier, 0, _LAST)
        for span in ({**whole, "$lt": self._key(tier, start)}, {**whole, "$gte": self._key(tier, end)}):
            wanted = {"_id": span}
            self._documents.do(lambda db, wanted=wanted: db[SLICES].delete_many(wanted))  # type: ignore[misc]

    def _find(self, tier: int, start: int, end: int, fields: dict[str, int] | None) -> dict[int, dict[str, Any]]:
        """By slot, the document that was inserted last."""
        wanted = {"_id": self._span(tier, start, end)}
        rows = self._documents.do(lambda db: list(db[SLICES].find(wanted, fields).sort("_id", 1)))
        return {int(row["_id"].rsplit(":", 2)[1]): row for row in rows}

    def _insert(self, rows: Sequence[SliceRow], number: int) -> None:
        documents = [
            {
                "_id": f"{self._key(row.tier, row.start)}{number:012d}",
                "service": text_of(row.service),
                "routes": text_of(row.routes),
            }
            for row in rows
        ]
        older = [
            {"_id": {"$gte": self._key(r.tier, r.start), "$lt": d["_id"]}} for r, d in zip(rows, documents, strict=True)
        ]

        def insert(database: Database[dict[str, Any]]) -> None:
            try:
                database[SLICES].insert_many(documents, ordered=False)
            except BulkWriteError as error:
                if not are_duplicates(error):
                    raise
            for each in older:
                database[SLICES].delete_many(each)

        if documents:
            self._documents.do(insert)
        self._inserted = number

    def _key(self, tier: int, start: int) -> str:
        return f"{self._documents.service}:{tier:05d}:{min(max(0, start), _LAST):011d}:"

    def _span(self, tier: int, start: int, end: int) -> dict[str, str]:
        return {"$gte": self._key(tier, start), "$lt": self._key(tier, end)}


def _encoded(row: SliceRow) -> list[Any]:
    return [row.tier, row.start, b64encode(row.service).decode(), b64encode(row.routes).decode()]


def _decoded(row: Sequence[Any]) -> SliceRow:
    tier, start, service, routes = row
    return SliceRow(int(tier), int(start), b64decode(service), b64decode(routes))
