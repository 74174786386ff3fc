"""`describe`: what a request did with the database, on its span."""

from typing import Final

from opentelemetry.trace import Span

from otel_monitoring import semconv
from otel_monitoring.instrumentation.database_work.work import Work

_MAX_REPEATED: Final = 5


def describe(span: Span, work: Work) -> None:
    """Add the attributes `otel_monitoring.database.…`; none without a command."""
    commands = work.commands
    if not commands:
        return
    span.set_attribute(semconv.DATABASE_COMMANDS, commands)
    span.set_attribute(semconv.DATABASE_DURATION, round(work.seconds, 6))
    if retries := work.retries:
        span.set_attribute(semconv.DATABASE_RETRIES, retries)
    if repeated := work.repeated()[:_MAX_REPEATED]:
        span.set_attribute(
            semconv.DATABASE_REPEATED,
            [
                " ".join(part for part in (operation, collection, shape, f"x {count}", line and f"at {line}") if part)
                for (operation, _, collection, _), shape, count, line in repeated
            ],
        )
