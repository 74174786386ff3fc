"""`BoundedNames`: a limit to the distinct values of a metric attribute."""

from otel_monitoring.semconv import OTHER


class BoundedNames:
    """Keeps the first `limit` distinct names; every further name becomes `other`.

    Args:
        limit: The maximum number of distinct names.
        other: The value for further names.
    """

    def __init__(self, limit: int, other: str = OTHER) -> None:
        self._limit = limit
        self._other = other
        self._known: set[str] = set()

    def __call__(self, name: str) -> str:
        """`name`, or `other` if it is new and the limit is reached."""
        if name in self._known:
            return name
        if len(self._known) >= self._limit:
            return self._other
        self._known.add(name)
        return name
