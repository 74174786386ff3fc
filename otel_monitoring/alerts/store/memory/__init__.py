"""The store in the memory of one process."""

from otel_monitoring.alerts.store.memory.store import MemoryStore

__all__ = ["MemoryStore"]
