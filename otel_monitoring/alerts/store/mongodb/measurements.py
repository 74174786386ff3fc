"""`MongoMeasurements`: what the workers of a service measured, a document for each delta."""

from collections.abc import Mapping, Sequence
from typing import Any

from pymongo.database import Database
from pymongo.errors import BulkWriteError

from otel_monitoring.alerts.store.mongodb.documents import (
    MEASUREMENTS,
    Documents,
    are_duplicates,
    bytes_of,
    text_of,
)
from otel_monitoring.metrics.stream import Base, Delta

_BATCH = 100


class MongoMeasurements:
    """A `MeasurementStream` in a MongoDB database."""

    problem = None

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def add(self, *deltas: Delta) -> None:
        service = self._documents.service
        documents = [
            {
                "_id": f"{service}:{delta.writer}:{delta.number:012d}",
                "service": service,
                "writer": delta.writer,
                "number": delta.number,
                "content": text_of(delta.content),
            }
            for delta in deltas
        ]

        def insert(database: Database[dict[str, Any]]) -> None:
            rest = documents
            while rest:
                try:
                    database[MEASUREMENTS].insert_many(rest[:_BATCH])
                    rest = rest[_BATCH:]
                except BulkWriteError as error:
                    if not are_duplicates(error):
                        raise
                    rest = rest[error.details["writeErrors"][0]["index"] + 1 :]

        self._documents.do(insert)

    def read(self, known: Mapping[str, int]) -> tuple[Sequence[Delta], str]:
        unknown: list[dict[str, Any]] = [{"writer": {"$nin": list(known)}}]
        unknown += [{"writer": writer, "number": {"$gt": number}} for writer, number in known.items()]
        wanted = {"service": self._documents.service, "$or": unknown}
        found = self._documents.do(lambda db: list(db[MEASUREMENTS].find(wanted)))
        deltas = sorted(Delta(row["writer"], row["number"], bytes_of(row["content"])) for row in found)
        # After the deltas: a base that replaced some of them is seen.
        return deltas, self._documents.head().latest["base"].version

    def base(self) -> Base | None:
        while (latest := self._documents.head().latest["base"]).version:
            found = self._documents.content("base", latest.number)
            if found is not None:
                content, at = found
                return Base(latest.version, content, max(0.0, self._documents.server_time() - at))
        return None

    def replace_base(self, before: str, version: str, content: bytes, deleted: Mapping[str, int]) -> bool:
        head = self._documents.head()
        if head.latest["base"].version != before or not self._documents.add("base", content, head, version):
            return False
        service = self._documents.service
        contained = [{"writer": writer, "number": {"$lte": number}} for writer, number in deleted.items()]
        if contained:
            self._documents.do(lambda db: db[MEASUREMENTS].delete_many({"service": service, "$or": contained}))
        return True

    def clear(self) -> None:
        service = self._documents.service
        self._documents.do(lambda db: db[MEASUREMENTS].delete_many({"service": service}))
        while (head := self._documents.head()).latest["base"].version and not self._documents.add("base", b"", head):
            pass  # another process has replaced it meanwhile
