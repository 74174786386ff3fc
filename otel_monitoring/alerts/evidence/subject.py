"""`subject_of`: what an alert is about, by the expression of its rule."""

from collections.abc import Callable
from enum import Enum

from otel_monitoring import semconv as c
from otel_monitoring.alerts.evidence.figures import Request
from otel_monitoring.alerts.rules.expressions import Count, Expression, Gauge, Percent, Quantile
from otel_monitoring.alerts.rules.indicators import FasterThan, Succeeded
from otel_monitoring.alerts.rules.slo import BurnRate
from otel_monitoring.metrics.outcome import OutcomeClassifier, RequestOutcome


class Subject(Enum):
    """What an alert is about; those of processes have the names of their readings."""

    ERRORS = "errors"
    TIME = "time"
    CPU = "cpu"
    MEMORY = "memory"
    LAG = "lag"
    POOL = "pool"
    DOCUMENTS = "documents"
    OTHER = "other"


_OF_GAUGES = {
    c.DATABASE_PING_DURATION: Subject.TIME,
    c.CPU_PRESSURE: Subject.CPU,
    c.PROCESS_CPU_UTILIZATION: Subject.CPU,
    c.SYSTEM_CPU_UTILIZATION: Subject.CPU,
    c.MEMORY_PRESSURE: Subject.MEMORY,
    c.PROCESS_MEMORY_USAGE: Subject.MEMORY,
    c.SYSTEM_MEMORY_UTILIZATION: Subject.MEMORY,
    c.SYSTEM_MEMORY_USAGE: Subject.MEMORY,
    c.EVENT_LOOP_LAG: Subject.LAG,
    c.DATABASE_POOL_WAIT: Subject.POOL,
    c.DB_CLIENT_CONNECTION_COUNT: Subject.POOL,
    c.COLLECTION_DOCUMENTS: Subject.DOCUMENTS,
}


def subject_of(expression: Expression) -> Subject:
    """What an alert with this expression is about."""
    match expression:
        case BurnRate(good=Succeeded()):
            return Subject.ERRORS
        case BurnRate(good=FasterThan()):
            return Subject.TIME
        case Percent(part=Count(metric=c.HTTP_SERVER_REQUEST_DURATION)):
            return Subject.ERRORS
        case Count(metric=c.HTTP_SERVER_REQUEST_DURATION, where=where):
            return Subject.ERRORS if where is not None else Subject.OTHER
        case Quantile():
            return Subject.TIME
        case Gauge(metric=metric):
            return _OF_GAUGES.get(metric, Subject.OTHER)
    return Subject.OTHER


def bad_requests(expression: Expression, classify: OutcomeClassifier) -> Callable[[Request], bool]:
    """Which requests are bad for an alert with this expression."""
    count = expression.part if isinstance(expression, Percent) else expression
    where = count.where if isinstance(count, Count) and count.metric == c.HTTP_SERVER_REQUEST_DURATION else None
    if where is None:
        return lambda key: classify(key.series) is RequestOutcome.ERROR
    return lambda key: where(key.series)
