"""Where alert state lives: behind one protocol, so that it can be this process, this host, or all hosts."""

from otel_monitoring.store.memory import MemoryStore
from otel_monitoring.store.protocol import Store

__all__ = ["MemoryStore", "Store"]
