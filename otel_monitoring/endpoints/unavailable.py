"""`or_unavailable`: what keeps an answer from being given is status 503 with the reason."""

from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import HTTPException

from otel_monitoring.endpoints.access import NO_STORE
from otel_monitoring.errors import StoreError, TimeLimitError


@contextmanager
def or_unavailable() -> Iterator[None]:
    """Within the `with` block, a store that fails and a monitoring that is late end the request.

    Raises:
        HTTPException: 503.
    """
    try:
        yield
    except StoreError as error:
        raise HTTPException(503, f"the past cannot be read: {error}", NO_STORE) from None
    except TimeLimitError as error:
        raise HTTPException(503, f"the monitoring is busy: {error}", NO_STORE) from None
