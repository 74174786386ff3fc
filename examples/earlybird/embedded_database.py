"""`EmbeddedDatabase`: the demo's MongoDB, which comes back with its data when somebody kills it."""

from pathlib import Path

from examples.earlybird import processes

AWAY_SECONDS = 15.0


class EmbeddedDatabase:
    """An embedded MongoDB, started by the constructor and started again on the same port whenever it has ended.

    Args:
        directory: The folder of its data and logs.
        seconds: How long it stays away.
    """

    def __init__(self, directory: Path, seconds: float = AWAY_SECONDS) -> None:
        self._directory = directory
        self._seconds = seconds
        self._part = processes.embedded_mongodb(directory)
        self._back_at: float | None = None
        try:
            self.uri = processes.mongodb_uri(self._part)
        except BaseException:
            self._part.stop()
            raise
        self._port = int(self.uri.rpartition(":")[2])

    @property
    def pid(self) -> int:
        return self._part.pid

    def check(self, now: float) -> str | None:
        """Start the database again when it is time; call it often.

        Args:
            now: Seconds of the monotonic clock.

        Returns:
            The news to print, or None.
        """
        if self._part.alive:
            return None
        if self._back_at is None:
            self._back_at = now + self._seconds
            return f"MongoDB has died. It comes back in {self._seconds:.0f} s."
        if now < self._back_at:
            return None
        self._part.stop()
        self._part, self._back_at = processes.embedded_mongodb(self._directory, self._port), None
        return f"MongoDB is started again. To kill it once more: kill -9 {self.pid}"

    def stop(self) -> None:
        self._part.stop()
