"""Where alert state lives: behind one protocol, so that it can be this process, this host, or all hosts."""

from otel_monitoring.alerts.store.fallback import FallbackStore
from otel_monitoring.alerts.store.memory import MemoryStore
from otel_monitoring.alerts.store.protocol import Store
from otel_monitoring.alerts.store.sqlite import SqliteStore
from otel_monitoring.alerts.store.state_file import make_usable, private_path, state_path
from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import StoreError
from otel_monitoring.guard import logger

__all__ = ["MemoryStore", "Store", "open_store", "place_of"]


def open_store(settings: Settings, *, service_name: str, environment: str | None) -> Store:
    """The store that `settings` choose. Its directory is made; its file is opened at the first use.

    Where the directory that is wanted cannot be used, a private one among the temporary files is, on which all workers
    of the host agree. Where there is none either, and while the file cannot be used, memory takes its place. Either is
    one warning and no error, and the store's `problem`.

    Args:
        settings: `store` and `state_dir` of it.
        service_name: `service.name`; services do not share a store,
        environment: nor do the environments of one.
    """
    if settings.store == "memory":
        return MemoryStore()
    try:
        path = state_path(settings.state_dir, service_name=service_name, environment=environment)
        make_usable(path)
        return FallbackStore(SqliteStore(path))
    except StoreError as error:
        problem = str(error)
    try:
        path = private_path(service_name=service_name, environment=environment)
        problem = f"{problem}; it is {path} until the next start"
        store: Store = FallbackStore(SqliteStore(path, problem=problem))
    except StoreError as further:
        problem = f"{problem}; {further}: this process keeps it in memory"
        store = MemoryStore(problem=problem)
    logger.warning("alert store: %s", problem)
    return store


def place_of(store: Store) -> str:
    """Where a store keeps what it is given, for people: `in memory`, or a file."""
    if isinstance(store, MemoryStore):
        return "in memory"
    if isinstance(store, FallbackStore):
        return place_of(store.primary)
    return f"in {store.path}" if isinstance(store, SqliteStore) else f"by {type(store).__name__}"
