"""`RequestSettings`: the variables of OpenTelemetry's request instrumentations that this package honours itself.

Both request engines follow them, whatever opentelemetry-instrumentation-fastapi would do with them.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

from pydantic import AliasChoices, Field, field_validator
from pydantic_settings import BaseSettings, NoDecode

from otel_monitoring.environment import are_expressions, items

_CAPTURE: Final = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_"
_EXCLUDED: Final = ("OTEL_PYTHON_FASTAPI_EXCLUDED_URLS", "OTEL_PYTHON_EXCLUDED_URLS")
_ALL_METHODS: Final = "OTEL_PYTHON_INSTRUMENTATION_HTTP_CAPTURE_ALL_METHODS"
_METHODS: Final = "OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS"

Items = Annotated[tuple[str, ...], NoDecode]


def _named(keyword: str, *variables: str) -> Any:
    return Field((), validation_alias=AliasChoices(*variables, keyword))


class RequestSettings(BaseSettings):
    """Which requests are left out, and which of their headers become attributes of spans."""

    excluded_urls: Items = _named("excluded_urls", *_EXCLUDED)
    """Regular expressions; what one of them finds in a request's path leaves that out: no span, no metric, no log."""
    capture_request_headers: Items = _named("capture_request_headers", f"{_CAPTURE}SERVER_REQUEST")
    """Regular expressions; a header whose whole name one of them matches is on the span, in any case of letters."""
    capture_response_headers: Items = _named("capture_response_headers", f"{_CAPTURE}SERVER_RESPONSE")
    sanitize_headers: Items = _named("sanitize_headers", f"{_CAPTURE}SANITIZE_FIELDS")
    """Regular expressions; the values of captured headers in whose name one of them is found are redacted."""
    known_methods: Items = _named("known_methods", _METHODS)
    """Methods that are reported as they are; none: those that HTTP's standards know."""

    @field_validator(
        "excluded_urls",
        "capture_request_headers",
        "capture_response_headers",
        "sanitize_headers",
        "known_methods",
        mode="before",
    )
    @classmethod
    def _split_items(cls, value: object) -> object:
        return items(value) if isinstance(value, str) else value

    @field_validator("excluded_urls", "capture_request_headers", "capture_response_headers", "sanitize_headers")
    @classmethod
    def _expressions(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not are_expressions(value):
            raise ValueError("it must be regular expressions, separated by commas")
        return value


def unhonoured(variables: Mapping[str, str]) -> Iterator[str]:
    """What is set for request instrumentations and has no effect here, a line for each variable."""
    if variables.get(_ALL_METHODS):
        yield f"{_ALL_METHODS}: it has no effect; {_METHODS} names the methods that are reported as they are"
    name = next((name for name in _EXCLUDED if variables.get(name)), None)
    if name is not None and any("//" in item for item in variables[name].split(",")):
        yield f"{name}: expressions are matched against the path alone; one that names scheme or host excludes nothing"
