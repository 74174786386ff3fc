"""`Reports`: what each worker measured, for the worker that evaluates."""

from typing import Protocol


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

    def published(self, since: float, now: float) -> dict[str, bytes]:
        """The reports published from `since` on, by worker; older ones are deleted.

        Reports published more than `CLOCK_TOLERANCE` after `now` are deleted too: the clock was set back.
        """

    def urgent_since(self, since: float) -> bool:
        """Whether a report published after `since`, in Unix seconds, was urgent, even if it was replaced since."""

    def delete(self, worker: str) -> None:
        """Delete the report of a worker that stops."""
