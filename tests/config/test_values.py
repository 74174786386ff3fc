"""The steps that make values of texts: what each takes, what it says otherwise, and that it never says the value."""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from otel_monitoring.config.settings import Settings, Thresholds
from otel_monitoring.config.values import (
    boolean,
    choice,
    each,
    file,
    headers,
    number,
    path,
    secret,
    text,
    texts,
    web_address,
    whole,
)

Step = Callable[[Any], Any]
POSITIVE = partial(number, above=0, most=100)
PORT = partial(whole, least=1, most=65_535)
COLOUR = choice(Literal["red", "Green", "blue"])


@pytest.mark.parametrize(
    ("step", "given", "made"),
    [
        (boolean, "Yes", True),
        (boolean, "off", False),
        (boolean, 1, True),
        (boolean, False, False),
        (POSITIVE, "7.5", 7.5),
        (POSITIVE, "1e1", 10.0),
        (POSITIVE, 100, 100.0),
        (POSITIVE, Decimal("0.5"), 0.5),
        (PORT, "587", 587),
        (PORT, 587.0, 587),
        (PORT, HTTPStatus.OK, 200),
        (COLOUR, "GREEN", "Green"),
        (text, "Zürich", "Zürich"),
        (path, "/tmp", Path("/tmp")),  # noqa: S108 - nothing is written
        (path, Path("a"), Path("a")),
        (texts, "a, b,", ("a", "b")),
        (texts, ["a", "b"], ("a", "b")),
        (each(whole), {500}, (500,)),
        (secret(), "sesame", SecretStr("sesame")),
        (secret(str.upper), SecretStr("sesame"), SecretStr("SESAME")),
        (web_address, "https://[::1]:8/a?b#c", "https://[::1]:8/a?b#c"),
        (headers, "a=b, c=", "a=b, c="),
        (headers, "a=%20b%2C%09%C3%A9%0A", "a=%20b%2C%09%C3%A9%0A"),
    ],
)
def test_a_value_is_made(step: Step, given: object, made: object) -> None:
    found = step(given)
    assert (found, type(found)) == (made, type(made))


def _listed(*values: object) -> tuple[object, ...]:
    return values


@pytest.mark.parametrize(
    ("step", "given", "said"),
    [
        *((boolean, wrong, "it must be true or false") for wrong in _listed("perhaps", "", 2, [], None, "2")),
        *(
            (POSITIVE, wrong, "it must be a number")
            for wrong in _listed("seven", "", "5m", True, [], None, b"", "0x10")
        ),
        *((POSITIVE, wrong, "it must be a finite number") for wrong in ("inf", "nan", "9" * 400, float("inf"))),
        (POSITIVE, 10**400, "it must be a number"),
        (POSITIVE, 0, "it must be greater than 0"),
        (POSITIVE, "101", "it must be less than or equal to 100"),
        *(
            (PORT, wrong, "it must be a whole number")
            for wrong in _listed("5.0", "1,000", "", 5.5, True, float("inf"), float("nan"), [], "9" * 5000)
        ),
        (PORT, "0", "it must be greater than or equal to 1"),
        (PORT, 65_536, "it must be less than or equal to 65535"),
        *((COLOUR, wrong, "it must be 'red', 'Green' or 'blue'") for wrong in ("yellow", "", 1, None)),
        (text, 5, "it must be text"),
        (text, "\udcff", "it must be text in UTF-8"),
        *((path, wrong, "it must be a path") for wrong in (5, b"/tmp", "a\0b", "\ud800")),
        (file, "/no/such", "there is no such file"),
        (file, "/", "there is no such file"),
        (file, "x" * 5000, "it cannot be opened (OSError)"),
        *((texts, wrong, "it must be a list, or a text with commas") for wrong in _listed(5, {"a": "b"}, b"a")),
        (texts, ["a", 5], "it must be text"),
        (headers, 'a="b"', "it must be name=value pairs separated by commas"),
        *(
            (headers, wrong, "it must be headers without line breaks, and without letters that are not in Latin-1")
            for wrong in ("a=b,c=d%0Ae", "a=b%0D%0A%20e", "a=%C4%8D", "a%0A=b", "a=b%00c", "a=%FF", "a=%c2%85e")
        ),
        *(
            (web_address, wrong, "it must be a URL that starts with http:// or https:// and names a host")
            for wrong in ("ftp://h", "http://", "http://[::1", "http://h:0", "http://h:x", "http://h /", "")
        ),
    ],
)
def test_what_cannot_be_a_value_is_said(step: Step, given: object, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        step(given)


def _read(section: type[Settings] | type[Thresholds], name: str, value: object) -> Mapping[str, str]:
    found = section.read({name: value})
    assert found.values.keys() | found.wrong.keys() == section.fields.keys()
    return found.wrong


@pytest.mark.parametrize("section", [Settings, Thresholds])
@example("http://ana:canary@\u2100.example.com/")
@example('a=b,c="canary"')
@example("canary\0")
@example("canary\udcff")
@example("[canary")
@settings(max_examples=25, deadline=None)
@given(st.text(max_size=40).map("canary".__add__))
def test_no_message_has_the_value(section: type[Settings] | type[Thresholds], value: str) -> None:
    """Templates alone name the field that is unknown, and `thresholds` names the threshold."""
    for name in section.fields.keys() - {"alert_title", "trace_url"}:
        for wrong in (value, [value], {"a" if name == "thresholds" else value: value}):
            for why in _read(section, name, wrong).values():
                assert "canary" not in why
                assert why.isprintable()
