"""Tracing of the application's own operations, and trace context that is stored in documents and messages."""

from otel_monitoring.tracing.documents import CONTEXT_FIELD, carry, continued
from otel_monitoring.tracing.headers import carry_headers
from otel_monitoring.tracing.operation import traced
from otel_monitoring.tracing.tags import tagged

__all__ = ["CONTEXT_FIELD", "carry", "carry_headers", "continued", "tagged", "traced"]
