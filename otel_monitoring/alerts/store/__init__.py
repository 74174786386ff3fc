"""The state of alerting, behind the protocol `Store`: in memory, in a file of a host, or in a database of all hosts.

Each part of the state has a module, with its protocol: `history`, `outbox`, `mutes`, `notes`, `texts`, `leases`,
`reports`, `conditions`; the protocols of `measurements` and `slices` are in `metrics`. `memory`, `sqlite` and `mongodb`
implement each part; `fallback` composes two of them.
"""

from collections.abc import Callable

from otel_monitoring.alerts.store.application_database import ApplicationDatabase
from otel_monitoring.alerts.store.fallback import FallbackStore
from otel_monitoring.alerts.store.memory import MemoryStore
from otel_monitoring.alerts.store.protocol import Store
from otel_monitoring.alerts.store.sqlite import BUSY_TIMEOUT, SqliteStore
from otel_monitoring.alerts.store.sqlite.state_file import make_usable, private_path, service_key, state_path
from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import StoreError
from otel_monitoring.guard import logger

_PATIENT_BUSY_TIMEOUT = 5.0
"""Seconds to wait for another process, which may be merging what its file has into a database."""

__all__ = ["MemoryStore", "Store", "open_store", "place_of"]


def open_store(
    settings: Settings,
    *,
    service_name: str,
    environment: str | None,
    database: Callable[[], ApplicationDatabase | None] = lambda: None,
) -> Store:
    """The store that `settings` choose. Its directory is created now; file or database are opened at the first use.

    If the configured directory cannot be used, the store uses a private directory for temporary files, which is the
    same for all workers of the host. If that fails too, it uses memory, as it does whenever the file cannot be used. In
    each case one warning is logged, and the store's `problem` is set. In place of a database that is away, it uses that
    file.

    Args:
        settings: The settings of the store.
        service_name: `service.name`. Each service has its own store,
        environment: and so has each environment of a service.
        database: Returns the application's database, if it has one by now.
    """
    if settings.store == "memory":
        return MemoryStore()
    if settings.store == "mongodb":
        from otel_monitoring.alerts.store.mongodb import MongoStore
        from otel_monitoring.alerts.store.mongodb.client import opener

        primary = MongoStore(opener(settings, database), service_key(service_name, environment))
        file = _file_store(settings, service_name, environment, busy_timeout=_PATIENT_BUSY_TIMEOUT)
        return FallbackStore(primary, file, known=lambda: primary.known)
    return _file_store(settings, service_name, environment)


def _file_store(
    settings: Settings, service_name: str, environment: str | None, busy_timeout: float = BUSY_TIMEOUT
) -> Store:
    try:
        path = state_path(settings.state_dir, service_name=service_name, environment=environment)
        make_usable(path)
        return FallbackStore(SqliteStore(path, busy_timeout=busy_timeout))
    except StoreError as error:
        problem = str(error)
    try:
        path = private_path(service_name=service_name, environment=environment)
        problem = f"{problem}; it is {path} until the next start"
        store: Store = FallbackStore(SqliteStore(path, busy_timeout=busy_timeout, problem=problem))
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
    return (
        f"in {store.path}" if isinstance(store, SqliteStore) else getattr(store, "place", f"by {type(store).__name__}")
    )
