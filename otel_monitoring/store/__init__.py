"""Where alert state lives: behind one protocol, so that it can be this process, this host, or all hosts."""

from otel_monitoring.config import Settings
from otel_monitoring.store.location import state_path
from otel_monitoring.store.memory import MemoryStore
from otel_monitoring.store.protocol import Store
from otel_monitoring.store.resilient import ResilientStore
from otel_monitoring.store.sqlite import SqliteStore

__all__ = ["MemoryStore", "Store", "open_store"]


def open_store(settings: Settings, *, service_name: str, environment: str | None) -> Store:
    """The store that `settings` choose. No file is touched before its first use.

    A file that cannot be used, or not any more, is no error: memory takes its place, with one warning.

    Args:
        settings: `store` and `state_dir` of it.
        service_name: `service.name`; services do not share a store,
        environment: nor do the environments of one.
    """
    if settings.store == "memory":
        return MemoryStore()
    path = state_path(settings.state_dir, service_name=service_name, environment=environment)
    return ResilientStore(SqliteStore(path))
