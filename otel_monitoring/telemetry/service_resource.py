"""`ServiceResource`: the resource of a service, which its exporters look up for each span and each log record."""

from opentelemetry.sdk.resources import Resource


class ServiceResource(Resource):
    """A resource that remembers its hash.

    The exporters group what they send by resource. The SDK's resource hashes a JSON text of all its attributes each
    time, which takes an eighth of what it takes to encode a span.
    """

    _hash: int | None = None

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = super().__hash__()
        return self._hash
