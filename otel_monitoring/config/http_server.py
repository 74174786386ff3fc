"""`RequestSettings`: OpenTelemetry's variables for HTTP server instrumentations; both request engines follow them."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator

from otel_monitoring.environment import are_expressions, items

_CAPTURE: Final = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_"
_EXCLUDED: Final = ("OTEL_PYTHON_FASTAPI_EXCLUDED_URLS", "OTEL_PYTHON_EXCLUDED_URLS")
_ALL_METHODS: Final = "OTEL_PYTHON_INSTRUMENTATION_HTTP_CAPTURE_ALL_METHODS"
_METHODS: Final = "OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS"

Items = tuple[str, ...]


def _from_variable(keyword: str, *variables: str) -> Any:
    """A field that is read from the first of these environment variables that is set, or given as `keyword`."""
    return Field((), validation_alias=AliasChoices(*variables, keyword))


class RequestSettings(BaseModel):
    """Which requests are excluded, and which headers become attributes of spans."""

    model_config = ConfigDict(defer_build=True)  # of use as a part of `Settings` alone

    excluded_urls: Items = _from_variable("excluded_urls", *_EXCLUDED)
    """Regular expressions. A request whose path one of them matches anywhere has no span, no metric and no log."""
    capture_request_headers: Items = _from_variable("capture_request_headers", f"{_CAPTURE}SERVER_REQUEST")
    """Regular expressions. A header whose whole name one of them matches, in upper or lower case, is on the span."""
    capture_response_headers: Items = _from_variable("capture_response_headers", f"{_CAPTURE}SERVER_RESPONSE")
    sanitize_headers: Items = _from_variable("sanitize_headers", f"{_CAPTURE}SANITIZE_FIELDS")
    """Regular expressions. The value of a captured header is redacted where one of them matches in its name."""
    known_methods: Items = _from_variable("known_methods", _METHODS)
    """Methods that are reported by name, all others as `_OTHER`. Empty: the methods of the HTTP standards."""

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


def without_effect(variables: Mapping[str, str]) -> Iterator[str]:
    """One line for each variable of HTTP server instrumentations that is set and has no effect."""
    if variables.get(_ALL_METHODS):
        yield f"{_ALL_METHODS}: it has no effect; {_METHODS} names the methods that are reported as they are"
    name = next((name for name in _EXCLUDED if variables.get(name)), None)
    if name is not None and any("//" in item for item in variables[name].split(",")):
        yield f"{name}: expressions are matched against the path alone; one that names scheme or host excludes nothing"
