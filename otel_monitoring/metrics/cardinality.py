"""How many distinct names may become attribute values of a metric."""

from otel_monitoring.semconv import OTHER


class BoundedNames:
    """Lets the first `limit` distinct names through; every later one becomes `other`.

    Args:
        limit: How many distinct names there may be.
        other: What the later ones are called.
    """

    def __init__(self, limit: int, other: str = OTHER) -> None:
        self._limit = limit
        self._other = other
        self._known: set[str] = set()

    def __call__(self, name: str) -> str:
        """`name`, or `other` where there are too many."""
        if name in self._known:
            return name
        if len(self._known) >= self._limit:
            return self._other
        self._known.add(name)
        return name
