"""Redaction of URL queries on spans: parameter names stay, values are replaced."""

from typing import Final
from urllib.parse import parse_qsl, urlencode

from opentelemetry.trace import Span

REDACTED: Final = "REDACTED"

_SIGNATURES: Final = frozenset(
    {"X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "sig", "X-Goog-Signature"}
)

_MAX_QUERY_KEYS: Final = 32

_MAX_KEY_LENGTH: Final = 64

# Attributes of the old and the stable conventions that may contain the query.
_URL_ATTRIBUTES = ("url.full", "http.url", "http.target")


def redacted_query(query: bytes) -> str:
    """`query` with every value replaced by `REDACTED`, and every item without `=` as a whole; at most 32 items."""
    parts = query.decode("latin-1").split("&", _MAX_QUERY_KEYS)
    return "&".join(
        f"{part.split('=', 1)[0][:_MAX_KEY_LENGTH]}={REDACTED}" if "=" in part else REDACTED
        for part in parts[:_MAX_QUERY_KEYS]
    )


def query_with_values(query: bytes) -> str:
    """`query` as FastAPI's telemetry reports it: only values of well-known signature parameters are replaced."""
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    return urlencode([(key, REDACTED if key in _SIGNATURES else value) for key, value in pairs])


def hide_query(span: Span, query: bytes) -> None:
    """Redact `query` in the URL attributes that `span` has so far."""
    attributes = getattr(span, "attributes", None)
    if not attributes:
        return
    if "url.query" in attributes:
        span.set_attribute("url.query", redacted_query(query))
    for key in _URL_ATTRIBUTES:
        url = attributes.get(key)
        if isinstance(url, str) and "?" in url:
            span.set_attribute(key, url.split("?", 1)[0])
