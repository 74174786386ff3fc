"""The store in a SQLite file that the workers of a host share."""

from otel_monitoring.alerts.store.sqlite.store import BUSY_TIMEOUT, SqliteStore

__all__ = ["BUSY_TIMEOUT", "SqliteStore"]
