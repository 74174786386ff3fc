"""`Commands`: listens to the commands of MongoDB clients, for their metrics and their spans."""

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from opentelemetry.context import get_current
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.database_work.shape import is_batch, source_of
from otel_monitoring.instrumentation.database_work.work import Use, open_work
from otel_monitoring.instrumentation.mongodb.command_failure import CommandFailure, failure_in
from otel_monitoring.instrumentation.mongodb.command_metrics import CommandMetrics
from otel_monitoring.instrumentation.mongodb.command_names import DRIVER_COMMANDS, Command, collection_of
from otel_monitoring.instrumentation.mongodb.inflight import InFlight
from otel_monitoring.instrumentation.mongodb.retries import STABLE_IDS, attempt, is_retryable
from otel_monitoring.metrics.direct_histogram import RecordedSeries
from otel_monitoring.runtime.suppression import is_suppressed

if TYPE_CHECKING:
    from otel_monitoring.instrumentation.mongodb.command_spans import CommandSpans
    from otel_monitoring.telemetry.tracer_provider import LeafSpan, StartedSpan

_MAX_KNOWN: Final = 2000
_MAX_INFLIGHT: Final = 10_000

_MAX_FAILED: Final = 1000

_Known: TypeAlias = "tuple[RecordedSeries | None, LeafSpan | None]"
"""What a command is recorded in, and what its spans have in common."""
_Started: TypeAlias = "tuple[RecordedSeries | None, StartedSpan | None, Use | None, Mapping[str, Any] | None, Any]"
"""The series of a command that was sent, its span, its part of a request, what its shape is made of, its session."""


class Commands(CommandListener):
    """Measures commands, makes their spans, or both: what both need is found once.

    The driver's own commands and those inside `suppress_instrumentation` are left out. Only the start event of a
    command names the collection, so its series and its span are kept in a bounded table until the command ends.

    Args:
        metrics: Where durations are recorded; None: they are not.
        spans: Makes the spans; None: there are none.
    """

    def __init__(self, metrics: CommandMetrics | None, spans: "CommandSpans | None") -> None:
        self.metrics = metrics
        self.spans = spans
        self._known: dict[Command, _Known] = {}
        self._inflight = InFlight[_Started](_MAX_INFLIGHT)
        self._failed: dict[object, bool] = {}
        self._guard = fail_open("database commands")

    # Every command causes the next two events: a `try` takes the place of `with self._guard`, which takes longer.

    def started(self, event: CommandStartedEvent) -> None:
        """A command was sent."""
        metrics, spans = self.metrics, self.spans
        measured, traced = metrics is not None and metrics.enabled, spans is not None and spans.enabled
        if not (measured or traced):
            return
        try:
            operation, context = event.command_name, get_current()
            if operation in DRIVER_COMMANDS or (context and is_suppressed()):
                return
            document = event.command
            command = operation, event.database_name, collection_of(operation, document), event.connection_id
            series, kind = self._known.get(command) or self._prepare(command)
            if not measured:
                series = None
            span = (
                spans.start(kind, operation, document, context)
                if traced and spans is not None and kind is not None
                else None
            )
            session = None if STABLE_IDS else document.get("lsid")
            again = bool(self._failed) and self._is_retry(event, session)
            use = source = None
            if series is not None and (work := open_work(context)) is not None:
                source = source_of(operation, document)
                batch = event.operation_id if is_batch(operation, document) else None
                use = work.begin(command, None if again else source, event.request_id, batch)
                if again and use is not None:
                    use.retries += 1
            for lost in self._inflight.put(event, (series, span, use, source, session)):
                if spans is not None and lost[1] is not None:
                    spans.end(lost[1], None)
        except Exception as error:  # noqa: BLE001
            self._guard.caught(error)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """A command was answered; its reply may report errors of single writes."""
        try:
            reply = event.reply
            self._ended(event, failure_in(reply), reply)
        except Exception as error:  # noqa: BLE001
            self._guard.caught(error)

    def failed(self, event: CommandFailedEvent) -> None:
        """A command failed: by an error of the server, or without a reply."""
        with self._guard:
            if self._ended(event, event.failure, event.failure) and self.metrics is not None:
                self.metrics.lost(event.connection_id, event.failure)

    def _prepare(self, command: Command) -> _Known:
        """What a command needs, kept for the next one unless too much is."""
        metrics, spans, many = self.metrics, self.spans, len(self._known) >= _MAX_KNOWN
        series = metrics.series(command, many=many) if metrics is not None else None
        prepared = series, spans.prepare(command) if spans is not None else None
        if not many:
            self._known[command] = prepared
        return prepared

    def _is_retry(self, event: CommandStartedEvent, session: Any) -> bool:
        """Whether the command is sent again after a failure; if so, it is counted."""
        again = self._failed.pop(attempt(event, session), False)
        if again and self.metrics is not None:
            self.metrics.retried(event.command_name)
        return again

    def _may_be_retried(self, event: CommandSucceededEvent | CommandFailedEvent, session: Any) -> None:
        """Remember a command that has failed: the driver may send it again."""
        if len(self._failed) >= _MAX_FAILED:
            self._failed.pop(next(iter(self._failed)), None)
        self._failed[attempt(event, session)] = True

    def _ended(
        self,
        event: CommandSucceededEvent | CommandFailedEvent,
        failure: CommandFailure | None,
        reply: Mapping[str, Any],
    ) -> bool:
        """Record a command that is known, and end its span, also inside `suppress_instrumentation`."""
        started = self._inflight.pop(event)
        if started is None:
            return False
        series, span, use, source, session = started
        if span is not None and self.spans is not None:
            self.spans.end(span, failure, reply)
        if series is not None and self.metrics is not None:
            if failure is not None:
                series = self.metrics.failed(series, failure)
                if is_retryable(failure):
                    self._may_be_retried(event, session)
            series.record(event.duration_micros / 1e6)
        if use is not None:
            use.ended(event.duration_micros, source)
        return True


def measures(listeners: Iterable[object], metrics: CommandMetrics) -> bool:
    """Whether one of `listeners` records commands with `metrics`."""
    return any(isinstance(one, Commands) and one.metrics is metrics for one in listeners)


def makes_spans(listeners: Iterable[object]) -> bool:
    """Whether one of `listeners` makes spans: ours, or that of `opentelemetry-instrumentation-pymongo`."""
    theirs: Any = getattr(sys.modules.get("opentelemetry.instrumentation.pymongo"), "CommandTracer", ())
    return any(
        (isinstance(one, Commands) and one.spans is not None and one.spans.enabled)
        or (isinstance(one, theirs) and one.is_enabled)
        for one in listeners
    )
