"""The state of alerting, behind the protocol `Store`: in memory, or in a file that the workers of a host share.

Each part of the state has a module, with its protocol: `history`, `outbox`, `mutes`, `notes`, `incidents`, `leases`,
`reports`, `conditions`. `memory` and `sqlite` implement each part; `fallback` composes both.
"""

from otel_monitoring.alerts.store.fallback import FallbackStore
from otel_monitoring.alerts.store.memory import MemoryStore
from otel_monitoring.alerts.store.protocol import Store
from otel_monitoring.alerts.store.sqlite import SqliteStore
from otel_monitoring.alerts.store.sqlite.state_file import make_usable, private_path, state_path
from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import StoreError
from otel_monitoring.guard import logger

__all__ = ["MemoryStore", "Store", "open_store", "place_of"]


def open_store(settings: Settings, *, service_name: str, environment: str | None) -> Store:
    """The store that `settings` choose. Its directory is created now; its file is opened at the first use.

    If the configured directory cannot be used, the store uses a private directory for temporary files, which is the
    same for all workers of the host. If that fails too, it uses memory, as it does whenever the file cannot be used. In
    each case one warning is logged, and the store's `problem` is set.

    Args:
        settings: The settings `store` and `state_dir`.
        service_name: `service.name`. Each service has its own store,
        environment: and so has each environment of a service.
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
    except StoreError as error:
        problem = f"{problem}; {error}: this process keeps it in memory"
        store = MemoryStore(problem=problem)
    logger.warning("alert store: %s", problem)
    return store


def place_of(store: Store) -> str:
    """Where a store keeps its state, for people, e.g. `in memory`."""
    if isinstance(store, MemoryStore):
        return "in memory"
    if isinstance(store, FallbackStore):
        return place_of(store.primary)
    return f"in {store.path}" if isinstance(store, SqliteStore) else f"by {type(store).__name__}"
