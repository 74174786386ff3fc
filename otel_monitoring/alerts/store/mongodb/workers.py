"""`MongoLeases` and `MongoReports`: documents that change often, apart from the state; they take effect at once."""

from collections.abc import Collection

from otel_monitoring.alerts.store.leases import LEADER
from otel_monitoring.alerts.store.memory.state import LeaseRow
from otel_monitoring.alerts.store.mongodb.documents import FRESH_SECONDS, REPORTS, Documents, bytes_of, text_of
from otel_monitoring.alerts.store.protocol import CLOCK_TOLERANCE
from otel_monitoring.alerts.store.reports import Published
from otel_monitoring.errors import StoreError

_ATTEMPTS = 20


class MongoLeases:
    """`Leases` in a MongoDB database."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def lead(self, worker: str, now: float, until: float, leases: Collection[str] = (LEADER,)) -> frozenset[str]:
        for attempt in range(_ATTEMPTS):
            head = self._documents.head(0.0 if attempt else FRESH_SECONDS)
            present = head.leases
            held = {name: row.worker for name, row in present.items() if row.holds(now, 0.0)}
            granted = frozenset(name for name in leases if held.get(name, worker) == worker)
            if not granted:
                return granted
            if self._documents.add_leases(
                {**present, **dict.fromkeys(granted, LeaseRow(worker, now, until))}, now, head
            ):
                return granted
        raise StoreError("MongoDB: too many workers change the leases at once", busy=True)

    def holders(self, now: float, within: float = 0.0) -> dict[str, str]:
        leases = self._documents.head(FRESH_SECONDS).leases
        return {name: row.worker for name, row in leases.items() if row.holds(now, within)}

    def resign(self, worker: str) -> None:
        for _ in range(_ATTEMPTS):
            head = self._documents.head()
            present = head.leases
            given_back = {n: row._replace(until=row.taken) for n, row in present.items() if row.worker == worker}
            if given_back.items() <= present.items():
                return
            now = max(row.taken for row in given_back.values())
            if self._documents.add_leases({**present, **given_back}, now, head):
                return


class MongoReports:
    """`Reports` in a MongoDB database."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def publish(self, worker: str, report: bytes, now: float, *, urgent: bool = False) -> None:
        key = f"{self._documents.service}:{worker}"
        document = {"_id": key, "at": now, "report": text_of(report)}
        self._documents.do(lambda db: db[REPORTS].replace_one({"_id": key}, document, upsert=True))
        if urgent:
            self._documents.set_urgent(worker, now)

    def published(self, now: float) -> dict[str, Published]:
        found = self._documents.do(lambda db: list(db[REPORTS].find(self._documents.of_service())))
        reports = {each["_id"].removeprefix(f"{self._documents.service}:"): each for each in found}
        void = [worker for worker, each in reports.items() if each["at"] > now + CLOCK_TOLERANCE]
        for worker in void:
            self.delete(worker)
            del reports[worker]
        return {worker: Published(each["at"], bytes_of(each["report"])) for worker, each in reports.items()}

    def urgent_since(self, since: float) -> bool:
        return any(at > since for at in self._documents.head(FRESH_SECONDS).urgent.values())

    def delete(self, worker: str) -> None:
        key = f"{self._documents.service}:{worker}"
        self._documents.do(lambda db: db[REPORTS].delete_one({"_id": key}))
        self._documents.forget_urgent([worker])
