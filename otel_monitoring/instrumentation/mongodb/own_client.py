"""`database_at`: a MongoDB client of our own, for services that pass no database handle."""

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


def check_uri(uri: str, *, setting: str = "OTEL_MONITORING_DATABASE_URI") -> None:
    """Check that `uri`, the value of `setting`, is a MongoDB connection string, without network access or files.

    Raises:
        ConfigurationError: `uri` is invalid; the message does not quote it.
    """
    text = _SEEDS + uri.removeprefix(_RECORDS) if uri.startswith(_RECORDS) else uri
    try:
        with warnings.catch_warnings():  # the client emits them again
            warnings.simplefilter("ignore")
            parse_uri(text, warn=True)
    except (InvalidURI, PyMongoConfigurationError, ValueError) as error:
        # PyMongo's message may quote a part of the password.
        raise ConfigurationError(
            f"{setting}: it is no usable MongoDB connection string ({type(error).__name__})"
        ) from None
    except OSError:  # a file in the string, e.g. a certificate, may be created later
        return


def database_at(uri: str, *, timeout: float) -> Database[dict[str, Any]]:
    """The database in `uri`, `admin` if there is none; the client connects at the first command.

    Args:
        uri: A MongoDB connection string that `check_uri` has accepted. An SRV name is resolved here, which may take
            seconds.
        timeout: Seconds of PyMongo's server selection.

    Raises:
        ConnectionError: The client cannot be made yet: a name does not resolve, or a file does not exist.
    """
    try:
        client: MongoClient[dict[str, Any]] = MongoClient(
            uri, appname="otel_monitoring", maxPoolSize=2, serverSelectionTimeoutMS=int(timeout * 1000)
        )
        return client.get_default_database(default="admin")
    except Exception as error:  # noqa: BLE001 - the resolver's, the file system's, OpenSSL's
        raise ConnectionError(redact_error(error)) from None


def needs_name_lookup(uri: str) -> bool:
    """Whether `uri` is an SRV connection string, whose servers are looked up in DNS first."""
    return uri.startswith(_RECORDS)
