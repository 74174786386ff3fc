"""`EvidenceSources`: where evidence comes from."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from otel_monitoring.metrics.error_groups import ErrorGroup, ErrorKey
from otel_monitoring.metrics.outcome import OutcomeClassifier
from otel_monitoring.metrics.slices.table import SliceTable
from otel_monitoring.metrics.window import Windows

_NOTES_IN_WINDOW = 5


class EvidenceSources(NamedTuple):
    """Where evidence comes from.

    Attributes:
        history: Returns what the service measured.
        errors: Returns the groups of failed requests.
        table: Returns the slices of the past.
        classify: Which requests are errors.
        window: Seconds that rules look back.
        trace_url: The template of links to traces, or empty.
        page_url: The link to the status page, or empty.
    """

    history: Callable[[], Windows]
    errors: Callable[[], Mapping[ErrorKey, ErrorGroup]]
    table: Callable[[], SliceTable]
    classify: OutcomeClassifier
    window: float
    trace_url: str = ""
    page_url: str = ""

    @property
    def note_seconds(self) -> float:
        """Seconds between two notes of the totals."""
        return self.window / _NOTES_IN_WINDOW
