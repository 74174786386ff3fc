"""Our own MongoDB client, for services that pass no handle."""

import warnings
from typing import Any, Final

from pymongo import MongoClient
from pymongo.errors import ConfigurationError as PyMongoConfigurationError
from pymongo.errors import InvalidURI
from pymongo.synchronous.database import Database
from pymongo.uri_parser import parse_uri

from otel_monitoring.errors import ConfigurationError
from otel_monitoring.redact import redact_error

_SEEDS: Final = "mongodb://"
_RECORDS: Final = "mongodb+srv://"


def check_uri(uri: str) -> None:
    """Nothing, for a connection string; neither the network nor a file is asked.

    Raises:
        ConfigurationError: It is none; the message does not repeat it.
    """
    text = _SEEDS + uri.removeprefix(_RECORDS) if uri.startswith(_RECORDS) else uri
    try:
        with warnings.catch_warnings():  # the client gives them again
            warnings.simplefilter("ignore")
            parse_uri(text, warn=True)
    except (InvalidURI, PyMongoConfigurationError, ValueError) as error:
        # PyMongo's own message may quote a part of the password.
        raise ConfigurationError(
            f"OTEL_MONITORING_DATABASE_URI: it is no usable MongoDB connection string ({type(error).__name__})"
        ) from None
    except OSError:  # a file that it names may come
        return


def database_at(uri: str, *, timeout: float) -> Database[dict[str, Any]]:
    """The database that `uri` names, `admin` where it names none. Connects with the first command.

    Args:
        uri: A MongoDB connection string that `check_uri` has passed. Its name is resolved here, which may take seconds.
        timeout: Seconds to look for a server.

    Raises:
        ConnectionError: There is no client yet, because its name does not resolve or a file is not there.
    """
    try:
        client: MongoClient[dict[str, Any]] = MongoClient(
            uri, appname="otel_monitoring", maxPoolSize=2, serverSelectionTimeoutMS=int(timeout * 1000)
        )
        return client.get_default_database(default="admin")
    except Exception as error:  # noqa: BLE001 - the resolver's, the file system's, OpenSSL's
        raise ConnectionError(redact_error(error)) from None


def needs_a_name(uri: str) -> bool:
    """Whether the servers have to be looked up by a name first."""
    return uri.startswith(_RECORDS)
