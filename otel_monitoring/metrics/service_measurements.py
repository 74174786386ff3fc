"""`ServiceMeasurements`: what a service measured, whoever added it up: its own processes, or Prometheus."""

from collections.abc import Mapping
from typing import Protocol

from otel_monitoring.metrics.error_groups import ErrorGroup, ErrorKey
from otel_monitoring.metrics.service_history import ErrorSeen
from otel_monitoring.metrics.window import Windows


class ServiceMeasurements(Protocol):
    """The measurements of all processes of a service; may be read in any thread."""

    @property
    def history(self) -> Windows:
        """The totals and the recent window."""

    @property
    def since(self) -> float:
        """From when the totals count, in Unix seconds."""

    @property
    def joined(self) -> bool:
        """Whether this is the whole service; False: the process itself knows more, and answers for itself."""

    @property
    def problem(self) -> str | None:
        """Why it is not up to date; None: it is."""

    @property
    def knows_errors(self) -> bool:
        """Whether it knows the texts of all processes' errors; False: `last_error` and `errors` are this process's."""

    @property
    def last_error(self) -> ErrorSeen | None:
        """The last error that is known; None: there was none."""

    @property
    def errors(self) -> Mapping[ErrorKey, ErrorGroup]:
        """The groups of failed requests that are known."""

    @property
    def metrics(self) -> frozenset[str]:
        """The names of the application's own metrics."""
