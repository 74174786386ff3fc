"""`RequestSettings`: OpenTelemetry's variables for HTTP server instrumentations; both request engines follow them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from otel_monitoring.config.setting import Section, setting
from otel_monitoring.config.values import expressions, texts

_CAPTURE: Final = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_"
_EXCLUDED: Final = ("OTEL_PYTHON_FASTAPI_EXCLUDED_URLS", "OTEL_PYTHON_EXCLUDED_URLS")
_ALL_METHODS: Final = "OTEL_PYTHON_INSTRUMENTATION_HTTP_CAPTURE_ALL_METHODS"
_METHODS: Final = "OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS"


class RequestSettings(Section):
    """Which requests are excluded, and which headers become attributes of spans."""

    excluded_urls: tuple[str, ...] = setting((), texts, expressions, variables=_EXCLUDED)
    """Regular expressions. A request whose path one of them matches anywhere has no span, no metric and no log."""
    capture_request_headers: tuple[str, ...] = setting((), texts, expressions, variables=(f"{_CAPTURE}SERVER_REQUEST",))
    """Regular expressions. A header whose whole name one of them matches, in upper or lower case, is on the span."""
    capture_response_headers: tuple[str, ...] = setting(
        (), texts, expressions, variables=(f"{_CAPTURE}SERVER_RESPONSE",)
    )
    sanitize_headers: tuple[str, ...] = setting((), texts, expressions, variables=(f"{_CAPTURE}SANITIZE_FIELDS",))
    """Regular expressions. The value of a captured header is redacted where one of them matches in its name."""
    known_methods: tuple[str, ...] = setting((), texts, variables=(_METHODS,))
    """Methods that are reported by name, all others as `_OTHER`. Empty: the methods of the HTTP standards."""


def without_effect(variables: Mapping[str, str]) -> Iterator[str]:
    """One line for each variable of HTTP server instrumentations that is set and has no effect."""
    if variables.get(_ALL_METHODS):
        yield f"{_ALL_METHODS}: it has no effect; {_METHODS} names the methods that are reported as they are"
    name = next((name for name in _EXCLUDED if variables.get(name)), None)
    if name is not None and any("//" in item for item in variables[name].split(",")):
        yield f"{name}: expressions are matched against the path alone; one that names scheme or host excludes nothing"
