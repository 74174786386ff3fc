"""`database_handle`: checks the object that the application passes as its database."""

from typing import Any

from otel_monitoring.errors import ConfigurationError


def database_handle(given: Any) -> Any:
    """Return `given` if it is a database, a client (for its default database), or None.

    A database is recognised by its method `command`, because a test may pass an object of another class.

    Raises:
        ConfigurationError: `given` is something else; the message says what to pass instead.
    """
    inner = getattr(given, "__dict__", {}).get("delegate", given)
    wrong = None if given is None or is_client(inner) else _other_thing(given, inner)
    if wrong is not None:
        what, instead = wrong
        raise ConfigurationError(f"db: {what} is no database: pass {instead}")
    return given


def is_client(inner: object) -> bool:
    """Whether `inner` is a client of PyMongo, or of a class with such a name; for Motor pass the `delegate`."""
    return _is_a(inner, "MongoClient")


def _other_thing(given: Any, inner: Any) -> tuple[str, str] | None:
    """A description of `given`, and what to pass instead; None if it is a database."""
    kind = type(given).__name__
    if isinstance(given, type):
        return f"the class {given.__name__}", "an instance of PyMongo's: MongoClient(uri)['shop']"
    if isinstance(given, str | bytes):
        return "text", "MongoClient(uri)['shop'], or set OTEL_MONITORING_DATABASE_URI"
    if _is_a(given, "Collection"):
        return f"a collection ({kind})", "its database, collection.database"
    if callable(getattr(inner, "command", None)):
        return None
    if callable(getattr(given, "add_middleware", None)):
        return f"an application ({kind})", "the database, or None, and the application to instrument(app)"
    if hasattr(type(given), "__await__"):
        return f"a {kind}", "what it gives when it is awaited"
    if callable(given):
        return f"a {kind}", "what it returns; a handle that is made later goes to watch_database(db)"
    return f"a {kind}", "a Database or AsyncDatabase of PyMongo, a database of Motor, or their client"


def _is_a(given: object, ending: str) -> bool:
    return any(base.__name__.endswith(ending) for base in type(given).__mro__)
