"""Text and values from outside, made safe to log, answer and send: one printable line, or bounded JSON, no secrets."""

from otel_monitoring.redact.text import (
    REPLACED,
    error_text,
    is_secret,
    kind_of,
    printable,
    redact,
    redact_error,
    redact_lines,
    redact_name,
    text_of,
)

__all__ = [
    "REPLACED",
    "error_text",
    "is_secret",
    "kind_of",
    "printable",
    "redact",
    "redact_error",
    "redact_lines",
    "redact_name",
    "text_of",
]
