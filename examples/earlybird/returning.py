"""The demo's database: when it is killed, it comes back after a while, on the same port, with its data."""

from pathlib import Path

from examples.earlybird import server

AWAY_SECONDS = 15.0


class ReturningDatabase:
    """An embedded MongoDB that is started again whenever it has ended; starts with construction.

    `seconds` is how long it stays away.
    """

    def __init__(self, directory: Path, seconds: float = AWAY_SECONDS) -> None:
        self._directory = directory
        self._seconds = seconds
        self._part = server.embedded_mongodb(directory)
        self._back_at: float | None = None
        try:
            self.uri = server.mongodb_uri(self._part)
        except BaseException:
            self._part.stop()
            raise
        self._port = int(self.uri.rpartition(":")[2])

    @property
    def pid(self) -> int:
        return self._part.pid

    def check(self, now: float) -> str | None:
        """To be called again and again with a monotonic `now`; what has happened, if anything."""
        if self._part.alive:
            return None
        if self._back_at is None:
            self._back_at = now + self._seconds
            return f"MongoDB has died. It comes back in {self._seconds:.0f} s."
        if now < self._back_at:
            return None
        self._part.stop()
        self._part, self._back_at = server.embedded_mongodb(self._directory, self._port), None
        return f"MongoDB is started again. To kill it once more: kill -9 {self.pid}"

    def stop(self) -> None:
        self._part.stop()
