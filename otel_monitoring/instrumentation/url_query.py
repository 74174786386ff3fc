"""The query of a URL as it may leave the process: names without values."""

from typing import Final
from urllib.parse import parse_qsl, urlencode

from opentelemetry.trace import Span

REDACTED: Final = "REDACTED"

_SIGNATURES: Final = frozenset(
    {"X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "sig", "X-Goog-Signature"}
)

_MAX_QUERY_KEYS: Final = 32

_MAX_KEY_LENGTH: Final = 64

# Attributes of old and new conventions that may hold the query.
_URL_ATTRIBUTES = ("url.full", "http.url", "http.target")


def redacted_query(query: bytes) -> str:
    """A query string with every value replaced; an item without `=` is replaced as a whole."""
    parts = query.decode("latin-1").split("&", _MAX_QUERY_KEYS)
    return "&".join(
        f"{part.split('=', 1)[0][:_MAX_KEY_LENGTH]}={REDACTED}" if "=" in part else REDACTED
        for part in parts[:_MAX_QUERY_KEYS]
    )


def query_with_values(query: bytes) -> str:
    """A query string as FastAPI reports it: only the values of well-known signatures are replaced."""
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    return urlencode([(key, REDACTED if key in _SIGNATURES else value) for key, value in pairs])


def hide_query(span: Span, query: bytes) -> None:
    """Replace the query's values in `span`, which has just started and is exported at its end."""
    attributes = getattr(span, "attributes", None)
    if not attributes:
        return
    if "url.query" in attributes:
        span.set_attribute("url.query", redacted_query(query))
    for key in _URL_ATTRIBUTES:
        url = attributes.get(key)
        if isinstance(url, str) and "?" in url:
            span.set_attribute(key, url.split("?", 1)[0])
