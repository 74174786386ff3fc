"""How a recorded request ended: what counts as an error of the service."""

from dataclasses import dataclass
from enum import Enum

from otel_monitoring.metrics.snapshot import Series
from otel_monitoring.semconv import ERROR_TYPE, HTTP_RESPONSE_STATUS_CODE

DISCONNECTED = "ConnectionError"
"""The `error.type` of a request whose client went away before it had its answer."""


class RequestOutcome(Enum):
    """How a request ended, from the service's point of view."""

    SUCCESS = "success"
    CLIENT_ERROR = "client_error"
    CLIENT_DISCONNECT = "client_disconnect"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class OutcomeClassifier:
    """Decides what is an error: a 5xx answer (or one of `statuses`), or an exception nobody handled.

    Attributes:
        statuses: Status codes that are errors, in place of every 5xx; None for the default.
    """

    statuses: frozenset[int] | None = None

    def is_error_status(self, status: int) -> bool:
        """Whether answering with `status` is an error of the service."""
        return status in self.statuses if self.statuses is not None else status >= 500

    def __call__(self, series: Series) -> RequestOutcome:
        """Classify the requests recorded in `series`."""
        attributes = dict(series.attributes)
        status, cause = attributes.get(HTTP_RESPONSE_STATUS_CODE), attributes.get(ERROR_TYPE)
        code = status if isinstance(status, int) else None
        if code is not None and self.is_error_status(code):
            return RequestOutcome.ERROR
        if cause == DISCONNECTED:
            return RequestOutcome.CLIENT_DISCONNECT
        # An error.type that only repeats the status tells of an answer, which `statuses` may have declared harmless.
        if cause is not None and cause != str(code):
            return RequestOutcome.ERROR
        return RequestOutcome.CLIENT_ERROR if code is not None and 400 <= code < 500 else RequestOutcome.SUCCESS
