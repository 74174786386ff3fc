"""`Reports`: what each worker measured, for the worker that evaluates."""

from typing import NamedTuple, Protocol


class Published(NamedTuple):
    """A report.

    Attributes:
        at: When it was published, in Unix seconds.
        report: The report.
    """

    at: float
    report: bytes


class Reports(Protocol):
    """The latest report of each worker, opaque bytes."""

    def publish(self, worker: str, report: bytes, now: float, *, urgent: bool = False) -> None:
        """Save the report of a worker; it replaces the worker's former report.

        Args:
            worker: The worker's name.
            report: The report.
            now: Unix seconds.
            urgent: Whether the leader evaluates it with its next beat.
        """

    def published(self, now: float) -> dict[str, Published]:
        """The reports by worker, until they are deleted.

        Those published more than `CLOCK_TOLERANCE` after `now`, in Unix seconds, are deleted: the clock was set back.
        """

    def urgent_since(self, since: float) -> bool:
        """Whether a report published after `since`, in Unix seconds, was urgent, even if it was replaced since."""

    def delete(self, worker: str) -> None:
        """Delete the report of a worker that has stopped."""
