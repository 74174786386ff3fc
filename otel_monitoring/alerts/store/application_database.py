"""`ApplicationDatabase`: the database that the application has, where the store may be."""

from typing import Any, NamedTuple


class ApplicationDatabase(NamedTuple):
    """A database of the application.

    Attributes:
        client: Its PyMongo client, synchronous or not.
        name: The database's name.
    """

    client: Any
    name: str
