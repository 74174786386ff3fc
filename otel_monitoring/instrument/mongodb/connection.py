"""A client of our own, for services that pass no handle."""

from typing import Any

from pymongo import MongoClient
from pymongo.errors import ConfigurationError as PyMongoConfigurationError
from pymongo.errors import InvalidURI
from pymongo.synchronous.database import Database

from otel_monitoring.errors import ConfigurationError


def database_at(uri: str, *, timeout: float) -> Database[dict[str, Any]]:
    """The database that `uri` names, `admin` where it names none. Connects with the first command.

    Args:
        uri: A MongoDB connection string.
        timeout: Seconds to look for a server.

    Raises:
        ConfigurationError: `uri` is no connection string; the message does not repeat it.
    """
    try:
        client: MongoClient[dict[str, Any]] = MongoClient(
            uri, appname="otel_monitoring", maxPoolSize=2, serverSelectionTimeoutMS=int(timeout * 1000)
        )
        return client.get_default_database(default="admin")
    except (InvalidURI, PyMongoConfigurationError, ValueError) as error:
        raise ConfigurationError(
            f"OTEL_MONITORING_DATABASE_URI: it is no usable MongoDB connection string ({type(error).__name__})"
        ) from None
