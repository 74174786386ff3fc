"""`Store`: the state of alerting, one part for each purpose."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from otel_monitoring.alerts.store.conditions import Conditions
from otel_monitoring.alerts.store.history import AlertHistory
from otel_monitoring.alerts.store.leases import Leases
from otel_monitoring.alerts.store.mutes import Mutes
from otel_monitoring.alerts.store.notes import Notes
from otel_monitoring.alerts.store.outbox import Outbox
from otel_monitoring.alerts.store.reports import Reports
from otel_monitoring.alerts.store.texts import Texts
from otel_monitoring.metrics.slices.table import SliceTable
from otel_monitoring.metrics.stream import MeasurementStream

CLOCK_TOLERANCE = 60.0
"""A time that is more than these seconds in the future is void: it was written before the clock was set back."""

T = TypeVar("T")


class Store(Protocol):
    """The state of alerting that outlives an evaluation, shared by the workers that use the same store.

    Its parts may be used from any thread. Each of their methods is one transaction, unless it runs inside `run`. A
    store that fails raises `StoreError`, and its transaction has no effect.
    """

    @property
    def history(self) -> AlertHistory:
        """What happened."""

    @property
    def outbox(self) -> Outbox:
        """What waits for a channel."""

    @property
    def mutes(self) -> Mutes:
        """Which alerts are not notified."""

    @property
    def notes(self) -> Notes:
        """When something was notified, given up or ended."""

    @property
    def incidents(self) -> Texts:
        """The states of the alerts of rules, from one evaluation to the next."""

    @property
    def acknowledgements(self) -> Texts:
        """Who has acknowledged which alert, and which alerts wait for it, by incident."""

    @property
    def leases(self) -> Leases:
        """Which worker evaluates, and which delivers by each channel."""

    @property
    def reports(self) -> Reports:
        """What each worker measured."""

    @property
    def conditions(self) -> Conditions:
        """How each channel fares."""

    @property
    def measurements(self) -> MeasurementStream:
        """What the workers measured; it takes no part in transactions of `run` and `exclusive`."""

    @property
    def slices(self) -> SliceTable:
        """The past, as slices; it takes no part in transactions of `run` and `exclusive`."""

    @property
    def problem(self) -> str | None:
        """Why the store does not work as configured, in one line without secrets; None: it does."""

    @property
    def clock_offset(self) -> float:
        """Seconds that the clock of the store is ahead of this host's, where several hosts share it: it counts then."""

    def run(self, work: "Callable[[Store], T]") -> T:
        """Run `work` in one transaction, isolated from other workers and threads, and return its result. Not nested.

        Everything inside takes effect, or, if an exception leaves it, nothing; leases and reports may take effect at
        once.

        Args:
            work: Gets the store to use. It must change nothing else: a store may run it again, after the first run had
                no effect.
        """

    def close(self) -> None:
        """Close files and connections; the next use opens them again. Idempotent."""
