"""The steps that make the value of a setting of a text, or check an object that has the form of the value already.

A value may be a secret: no message contains one.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar, get_args
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from otel_monitoring.config.hints import Unit, number_meant
from otel_monitoring.environment import are_expressions, items

Step = Callable[[Any], Any]
"""Makes a value of another one. Raises a `ValueError` that says what it must be, and never what it is."""
_Number = TypeVar("_Number", int, float)

_WORDS: Final = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0"), False),
}
_UNPRINTABLE: Final = r"[\x00-\x20\x7f-\x9f]"
_NAME: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# The headers that `opentelemetry.util.re.parse_env_headers` accepts. It logs any other text in full, secrets included.
_HEADER: Final = rf"\s*{_NAME}[ \t]*=[ \t]*[\x20\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*\s*"
# What HTTP libraries send. They refuse anything else with an error that contains it, secrets included.
_DECODED_HEADER: Final = rf"{_NAME}[ \t]*=[\t\x20-\x7e\xa0-\xff]*"


def text(given: object) -> str:
    """A text, which can be encoded: a variable that is not UTF-8 cannot."""
    if not isinstance(given, str):
        raise ValueError("it must be text")  # noqa: TRY004 - as for every wrong value
    try:
        given.encode()
    except UnicodeEncodeError:
        raise ValueError("it must be text in UTF-8") from None
    return str.__str__(given)


def boolean(given: object) -> bool:
    """True or false, also by the usual words in any case, 1 and 0."""
    found = _WORDS.get(given.lower()) if isinstance(given, str) else given
    if not isinstance(found, int | float) or found not in (0, 1):
        raise ValueError("it must be true or false")
    return bool(found)


def number(
    given: object,
    *,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
    unit: Unit | None = None,
) -> float:
    """A finite number.

    Args:
        given: The value.
        above: It must be greater than this.
        least: It must be at least this.
        most: It must be at most this.
        unit: What it counts, for the number that a text with another unit means. None: no number is proposed.
    """
    value = _converted(given, float)
    if value is None:
        raise ValueError(f"it must be a number{number_meant(given, unit) if unit is not None else ''}")
    if not math.isfinite(value):
        raise ValueError("it must be a finite number")
    _check_limits(value, above, least, most)
    return value


def whole(given: object, *, least: int | None = None, most: int | None = None) -> int:
    """A whole number within these limits."""
    value = _converted(given, int)
    if value is None or (not isinstance(given, str) and value != given):
        raise ValueError("it must be a whole number")
    _check_limits(value, None, least, most)
    return value


def _converted(given: Any, kind: Callable[[Any], _Number]) -> _Number | None:
    try:
        return None if isinstance(given, bool) else kind(given)
    except (ValueError, TypeError, OverflowError):
        return None


def _check_limits(value: float, above: float | None, least: float | None, most: float | None) -> None:
    if above is not None and not value > above:
        raise ValueError(f"it must be greater than {above}")
    if least is not None and not value >= least:
        raise ValueError(f"it must be greater than or equal to {least}")
    if most is not None and not value <= most:
        raise ValueError(f"it must be less than or equal to {most}")


def choice(literal: Any) -> Step:
    """One of the texts of a `Literal`, in any case."""
    allowed: tuple[str, ...] = get_args(literal)
    *others, last = map(repr, allowed)
    spelt = {one.lower(): one for one in allowed}

    def step(given: object) -> str:
        found = spelt.get(given.lower()) if isinstance(given, str) else None
        if found is None:
            raise ValueError(f"it must be {', '.join(others)} or {last}")
        return found

    return step


def path(given: Any) -> Path:
    """A path; nothing need be there."""
    try:
        found = Path(given)
        good = b"\0" not in os.fsencode(found)
    except (TypeError, UnicodeEncodeError):
        good = False
    if not good:
        raise ValueError("it must be a path")
    return found


def file(given: object) -> Path:
    """The path of a file that is there."""
    found = path(given)
    try:
        there = found.is_file()
    except OSError as error:
        raise ValueError(f"it cannot be opened ({type(error).__name__})") from None
    if not there:
        raise ValueError("there is no such file")
    return found


def secret(*steps: Step) -> Step:
    """A text that must not be shown, after these steps."""

    def step(given: object) -> SecretStr:
        plain = given.get_secret_value() if isinstance(given, SecretStr) else text(given)
        for one in steps:
            plain = one(plain)
        return SecretStr(plain)

    return step


def each(one: Step, split: Callable[[str], Iterable[str]] = items) -> Step:
    """A tuple of what the step `one` makes of each item of a list, or of a text, which `split` splits at commas."""

    def step(given: object) -> tuple[Any, ...]:
        found = split(given) if isinstance(given, str) else given
        if not isinstance(found, Iterable) or isinstance(found, bytes | Mapping):
            raise ValueError("it must be a list, or a text with commas")  # noqa: TRY004 - as for every wrong value
        return tuple(one(item) for item in found)

    return step


def expressions(values: tuple[str, ...]) -> tuple[str, ...]:
    """Regular expressions that OpenTelemetry's instrumentations can use together."""
    if not are_expressions(values):
        raise ValueError("it must be regular expressions, separated by commas")
    return values


def headers(value: str) -> str:
    """A list of headers as in `OTEL_EXPORTER_OTLP_HEADERS`, which can be sent once their escapes are decoded."""
    listed = [item for item in value.split(",") if item.strip()]
    if not all(re.fullmatch(_HEADER, item) for item in listed):
        raise ValueError("it must be name=value pairs separated by commas")
    if not all(re.fullmatch(_DECODED_HEADER, unquote(item).strip()) for item in listed):
        raise ValueError("it must be headers without line breaks, and without letters that are not in Latin-1")
    return value


def web_address(url: str) -> str:
    """An absolute HTTP URL."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or re.search(_UNPRINTABLE, url):
        raise ValueError("it must be a URL that starts with http:// or https:// and names a host")
    return url


texts = each(text)
"""A tuple of texts."""
secret_headers = secret(headers)
secret_web_address = secret(web_address)
