"""`suppress_instrumentation`: inside it, no instrumentation makes spans or measures.

It does what `opentelemetry.instrumentation.utils` does under this name. That module also loads `wrapt`, which a service
without further instrumentations does not need.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.context import attach, detach, get_value, set_value

from otel_monitoring import seams

_KEY = "suppress_instrumentation"
_KEY_OF_API = seams.SUPPRESSION.load("opentelemetry.context", "_SUPPRESS_INSTRUMENTATION_KEY") or _KEY
"""OpenTelemetry looks for both."""


@contextmanager
def suppress_instrumentation() -> Iterator[None]:
    """Suppress instrumentation inside the `with` block."""
    token = attach(set_value(_KEY_OF_API, True, set_value(_KEY, True)))
    try:
        yield
    finally:
        detach(token)


def is_suppressed() -> bool:
    """Whether instrumentation is suppressed, by this module or by OpenTelemetry's."""
    return bool(get_value(_KEY_OF_API) or get_value(_KEY))
