"""`BuiltClients`: the MongoDB clients that an application makes, and the database it probably means."""

import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import wrapt
from opentelemetry.instrumentation.utils import unwrap
from pymongo import AsyncMongoClient, MongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.database import Database

from otel_monitoring.forks import renewed
from otel_monitoring.guard import fail_open

Client: TypeAlias = MongoClient[Any] | AsyncMongoClient[Any]

# Used by PyMongo itself and by health checks: they are not the application's database.
_OURS: Final = "otel_monitoring"
"""The `appname` of clients that this package makes."""
_INTERNAL: Final = frozenset({"admin", "config", "local"})


@dataclass(slots=True)
class _Built:
    """A client, and the first database that the application took from it."""

    client: weakref.ref[Client]
    database: Database[Any] | AsyncDatabase[Any] | None = None


class BuiltClients:
    """Follows how PyMongo's clients are made and closed. Motor's clients contain one each.

    Args:
        changed: Called when `handle` has changed, in the thread that made or closed a client.
    """

    def __init__(self, changed: Callable[[], None] | None = None) -> None:
        self.changed = changed
        self._lock = renewed(self, "_lock", threading.RLock)
        self._built: list[_Built] = []
        self._handle: object | None = None
        self._guard = fail_open("looking for the application's database")

    def follow(self) -> Callable[[], None]:
        """Start following; returns the function that stops it."""
        seams: tuple[tuple[type, str, Callable[..., Any]], ...] = (
            (MongoClient, "__init__", self._client_made),
            (AsyncMongoClient, "__init__", self._client_made),
            (MongoClient, "close", self._client_closed),
            (AsyncMongoClient, "close", self._client_closed),
            (Database, "__init__", self._database_made),
            (AsyncDatabase, "__init__", self._database_made),
        )
        for owner, name, wrapper in seams:
            wrapt.wrap_function_wrapper(owner, name, wrapper)

        def stop() -> None:
            for owner, name, _ in seams:
                unwrap(owner, name)

        return stop

    @property
    def handle(self) -> object | None:
        """The first database that the application took from its first open client; before that the client; or None."""
        return self._handle

    @property
    def clients(self) -> list[Client]:
        """Every client that is still open, oldest first."""
        with self._lock:
            return [client for built in self._built if (client := built.client()) is not None]

    # The wrappers of PyMongo's methods

    def _client_made(
        self, wrapped: Callable[..., Any], instance: Client, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        wrapped(*args, **kwargs)
        if kwargs.get("appname") == _OURS:
            return
        with self._guard:
            with self._lock:
                self._built.append(_Built(weakref.ref(instance)))
            self._choose()

    def _client_closed(
        self, wrapped: Callable[..., Any], instance: Client, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        with self._guard:
            with self._lock:
                open_ones = [(one, one.client()) for one in self._built]
                # By identity: clients with the same servers are equal.
                self._built = [one for one, client in open_ones if client is not None and client is not instance]
            self._choose()
        return wrapped(*args, **kwargs)

    def _database_made(
        self, wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        wrapped(*args, **kwargs)
        with self._guard:
            if isinstance(self._handle, Database | AsyncDatabase) or instance.name in _INTERNAL:
                return
            with self._lock:
                built = next((one for one in self._built if one.client() is instance.client), None)
                if built is not None and built.database is None:
                    built.database = instance
            self._choose()

    def _choose(self) -> None:
        with self._lock:
            first = next((one for one in self._built if one.client() is not None), None)
            handle: object | None = None
            if first is not None:
                handle = first.database if first.database is not None else first.client()
            same, self._handle = handle is self._handle, handle
        if not same and self.changed is not None:
            self.changed()
