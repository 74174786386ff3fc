"""The store's own MongoDB client: like the application's, or by a connection string, with short timeouts."""

from collections.abc import Callable
from typing import Any, Final

from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import PyMongoError

from otel_monitoring import seams
from otel_monitoring.alerts.store.application_database import ApplicationDatabase
from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import StoreError
from otel_monitoring.redact import redact_error

_DATABASE: Final = "otel_monitoring"
"""The database where the connection string names none."""

APP_NAME: Final = "otel_monitoring"

_CONNECT_SECONDS, _SOCKET_SECONDS = 1.0, 1.5
CALL_SECONDS: Final = _CONNECT_SECONDS + _SOCKET_SECONDS
"""How long a call may take on a server that hangs: it connects, or waits for a server, and then for the answer."""
CONCURRENT_CALLS: Final = 8
"""How many calls may be under way at once; further ones wait. A database that is not slow sees one or two."""
_OPTIONS: Final[dict[str, Any]] = {
    "appname": APP_NAME,
    "connect": False,
    "connectTimeoutMS": int(1000 * _CONNECT_SECONDS),
    "serverSelectionTimeoutMS": int(1000 * _CONNECT_SECONDS),
    "socketTimeoutMS": int(1000 * _SOCKET_SECONDS),
    "timeoutMS": None,  # it would take the place of the others
    "waitQueueTimeoutMS": 1000,
    "maxPoolSize": CONCURRENT_CALLS,
    "minPoolSize": 0,
    "retryReads": False,
    "retryWrites": False,
}
_NOT_COPIED: Final = frozenset(
    ("event_listeners", "document_class", "type_registry", "tz_aware", "auto_encryption_opts")
)


def opener(
    settings: Settings, application: Callable[[], ApplicationDatabase | None]
) -> Callable[[], Database[dict[str, Any]]]:
    """How the store opens its database: that of `store_uri`, else the application's, else that of `database_uri`.

    The result connects with the first command. It raises `StoreError` where there is no database yet, or where no
    client can be made.

    Args:
        settings: The settings `store_uri` and `database_uri`.
        application: Returns the application's database, if it has one by now.
    """

    def open_database() -> Database[dict[str, Any]]:
        try:
            found = None if settings.store_uri is not None else application()
            if found is not None:
                return _unmeasured(MongoClient(**options_of(found.client)))[found.name]
            uri = settings.store_uri or settings.database_uri
            if uri is None:
                raise StoreError(
                    "OTEL_MONITORING_STORE=mongodb: there is no database yet: "
                    "pass one to MonitoringService, or set OTEL_MONITORING_STORE_URI"
                )
            client = _unmeasured(MongoClient(uri.get_secret_value(), **_OPTIONS))
            return client.get_default_database(default=_DATABASE)
        except (PyMongoError, OSError, ValueError, TypeError, seams.LostError) as error:
            raise StoreError(f"OTEL_MONITORING_STORE=mongodb: {redact_error(error)}") from error

    return open_database


def options_of(client: Any) -> dict[str, Any]:
    """The options for a client of our own with the hosts, the TLS and the credentials of the application's.

    Raises:
        LostError: They cannot be read.
    """
    with seams.MONGO_OPTIONS:
        given: dict[str, Any] = client._init_kwargs  # noqa: SLF001
        ours = {name.lower() for name in _OPTIONS} | _NOT_COPIED
        return {**{name: value for name, value in given.items() if name.lower() not in ours}, **_OPTIONS}
    raise seams.LostError("the options of the application's client cannot be read: set OTEL_MONITORING_STORE_URI")


def _unmeasured(client: MongoClient[dict[str, Any]]) -> MongoClient[dict[str, Any]]:
    """The client without the listeners that every new client gets: neither it nor its pools are measured."""
    with seams.MONGO_LISTENERS:
        for listeners in vars(client.options.pool_options._event_listeners).values():  # noqa: SLF001
            if isinstance(listeners, list):
                listeners.clear()
    return client
