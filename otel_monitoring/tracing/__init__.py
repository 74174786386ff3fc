"""Tracing of the application's own operations, and trace context that is stored in documents."""

from otel_monitoring.tracing.documents import CONTEXT_FIELD, carry, continued
from otel_monitoring.tracing.operation import traced
from otel_monitoring.tracing.tags import tagged

__all__ = ["CONTEXT_FIELD", "carry", "continued", "tagged", "traced"]
