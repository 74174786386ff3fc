"""The parts in memory that are about workers: leases and reports."""

from collections.abc import Collection

from otel_monitoring.alerts.store.leases import LEADER
from otel_monitoring.alerts.store.memory.state import Access, LeaseRow, MemoryState, ReportRow
from otel_monitoring.alerts.store.protocol import CLOCK_TOLERANCE
from otel_monitoring.alerts.store.reports import Published


class MemoryLeases:
    """`Leases` in memory."""

    def __init__(self, state: Access) -> None:
        self._state = state

    def lead(self, worker: str, now: float, until: float, leases: Collection[str] = (LEADER,)) -> frozenset[str]:
        def work(state: MemoryState) -> frozenset[str]:
            held = _holders(state, now, 0.0)
            granted = frozenset(name for name in leases if held.get(name, worker) == worker)
            state.leases.update(dict.fromkeys(granted, LeaseRow(worker, now, until)))
            return granted

        return self._state.use(work)

    def holders(self, now: float, within: float = 0.0) -> dict[str, str]:
        return self._state.use(lambda state: _holders(state, now, within))

    def resign(self, worker: str) -> None:
        def work(state: MemoryState) -> None:
            for name, lease in state.leases.items():
                if lease.worker == worker:
                    state.leases[name] = lease._replace(until=lease.taken)

        self._state.use(work)


class MemoryReports:
    """`Reports` in memory."""

    def __init__(self, state: Access) -> None:
        self._state = state

    def publish(self, worker: str, report: bytes, now: float, *, urgent: bool = False) -> None:
        def work(state: MemoryState) -> None:
            former = state.reports.get(worker)
            urgent_at = now if urgent else former.urgent_at if former is not None else None
            state.reports[worker] = ReportRow(report, now, urgent_at)

        self._state.use(work)

    def published(self, now: float) -> dict[str, Published]:
        def work(state: MemoryState) -> dict[str, Published]:
            latest = now + CLOCK_TOLERANCE
            state.reports = {worker: row for worker, row in state.reports.items() if row.at <= latest}
            return {worker: Published(row.at, row.content) for worker, row in state.reports.items()}

        return self._state.use(work)

    def urgent_since(self, since: float) -> bool:
        def work(state: MemoryState) -> bool:
            return any(row.urgent_at is not None and row.urgent_at > since for row in state.reports.values())

        return self._state.use(work)

    def delete(self, worker: str) -> None:
        self._state.use(lambda state: state.reports.pop(worker, None))


def _holders(state: MemoryState, now: float, within: float) -> dict[str, str]:
    return {name: lease.worker for name, lease in state.leases.items() if lease.holds(now, within)}
