"""How many distinct names may become attribute values of a metric."""

from otel_monitoring.conventions import OTHER


class BoundedNames:
    """Lets the first `limit` distinct names through; every later one becomes `_OTHER`.

    Args:
        limit: How many distinct names there may be.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def __call__(self, name: str) -> str:
        """`name`, or `_OTHER` where there are too many."""
        if name in self._known:
            return name
        if len(self._known) >= self._limit:
            return OTHER
        self._known.add(name)
        return name
