"""`OutcomeClassifier`: which recorded requests count as errors of the service."""

from enum import Enum

from otel_monitoring.metrics.snapshot import Series
from otel_monitoring.semconv import ERROR_TYPE, HTTP_RESPONSE_STATUS_CODE
from otel_monitoring.value import Value

DISCONNECTED = "ConnectionError"
"""The `error.type` of a request whose client disconnected before the response was complete."""


class RequestOutcome(Enum):
    """How a request ended, from the service's point of view."""

    SUCCESS = "success"
    CLIENT_ERROR = "client_error"
    CLIENT_DISCONNECT = "client_disconnect"
    ERROR = "error"

    __hash__ = object.__hash__  # that of `Enum` hashes the name, in Python


class OutcomeClassifier(Value):
    """Classifies requests: errors are 5xx responses (or those of `statuses`) and unhandled exceptions.

    Attributes:
        statuses: The status codes that are errors; None: every 5xx.
    """

    statuses: frozenset[int] | None = None

    def is_error_status(self, status: int) -> bool:
        """Whether a response with `status` is an error of the service."""
        return status in self.statuses if self.statuses is not None else status >= 500

    def __call__(self, series: Series) -> RequestOutcome:
        """The outcome of the requests recorded in `series`."""
        attributes = dict(series.attributes)
        status, cause = attributes.get(HTTP_RESPONSE_STATUS_CODE), attributes.get(ERROR_TYPE)
        code = status if isinstance(status, int) else None
        if code is not None and self.is_error_status(code):
            return RequestOutcome.ERROR
        if cause == DISCONNECTED:
            return RequestOutcome.CLIENT_DISCONNECT
        # An error.type that equals the status means a response was sent; `statuses` may say that it is no error.
        if cause is not None and cause != str(code):
            return RequestOutcome.ERROR
        return RequestOutcome.CLIENT_ERROR if code is not None and 400 <= code < 500 else RequestOutcome.SUCCESS
