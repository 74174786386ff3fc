"""`world`: a store whose outages are made for real, for the tests of every part of it."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_monitoring.alerts.store.fallback import RETRY_SECONDS, FallbackStore
from otel_monitoring.alerts.store.sqlite import SqliteStore, schema
from tests.alerts.store.test_store import NOW


class World:
    """A file, a resilient store on it, another worker's view of it, and the outages."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = NOW
        self.primary = SqliteStore(path, busy_timeout=0.02)
        self.store = FallbackStore(self.primary, clock=lambda: self.now)
        self.other = SqliteStore(path)
        self.other.history.counts()
        self._outage = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    def lock(self) -> None:
        """Nothing can be written; what was written can be read."""
        self._outage.execute("BEGIN IMMEDIATE")

    def unlock(self) -> None:
        self._outage.execute("ROLLBACK")

    def upgrade(self) -> None:
        """Nothing can be written or read."""
        self.primary.close()
        self._outage.execute("PRAGMA user_version = 99")

    def downgrade(self) -> None:
        self._outage.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS)}")

    def later(self) -> None:
        self.now += RETRY_SECONDS

    def close(self) -> None:
        for opened in (self.store, self.other, self._outage):
            opened.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "alerts.db")
    yield world
    world.close()
