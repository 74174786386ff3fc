"""The one language of templates: names and formats, and nothing that reaches further."""

import pytest

from otel_monitoring.alerts.notify.channels import text as text_of_channels
from otel_monitoring.config import template
from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import ConfigurationError

KNOWN = {"value": 0.0, "endpoint": "/a", "http.route": "/b"}


def test_fields_are_names_also_with_dots_and_have_the_formats_of_python() -> None:
    text = "{{{endpoint!r:>6}}} {value:.1f} {http.route}"
    template.check(text, KNOWN)
    assert template.fill(text, {**KNOWN, "value": 2.25}) == "{  '/a'} 2.2 /b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{valeu}", r"there is no \{valeu\}, it may have \{value\}, .*did you mean value"),
        ("{value.__class__}", r"there is no \{value.__class__\}"),
        ("{endpoint[0]}", r"there is no \{endpoint\[0\]\}"),
        ("{}", "its fields have names"),
        ("{0}", "its fields have names"),
        ("{value", "expected '}' before end of string"),
        ("{endpoint:.1f}", "Unknown format code"),
        (None, "None is no text"),
    ],
)
def test_what_cannot_be_filled_in_is_refused_with_the_fields_there_are(text: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        template.check(text, KNOWN)
    assert "{endpoint}" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("https://t.example.com/trace/{value}", "https://t.example.com/trace/5"),
        ('https://t/?left={{"query":"{value}"}}&u=a|b', "https://t/?left=%7B%22query%22:%225%22%7D&u=a%7Cb"),
        ("https://[::1]:8/a%20b/'{value}' <x>#ü", "https://[::1]:8/a%20b/%275%27%20%3Cx%3E#ü"),
    ],
)
def test_what_no_url_may_contain_is_quoted_in_a_link(text: str, link: str) -> None:
    assert template.fill_link(text, {"value": 5}) == link
    assert text_of_channels.link(link) == link, "channels show it as a link"


def test_the_title_of_messages_is_checked_at_the_start() -> None:
    assert Settings.load(alert_title="[{environment}] {name}: {message}").alert_title
    with pytest.raises(ConfigurationError, match=r"^ALERT_TITLE: there is no \{envronment\}.*did you mean environment"):
        Settings.load(alert_title="[{envronment}] {name}")
