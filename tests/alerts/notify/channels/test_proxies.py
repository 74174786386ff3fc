"""Which proxy a request goes through, as the environment says it; what cannot work there stops no alert."""

import httpx
import pytest

from otel_monitoring.alerts.notify.channels import proxies
from otel_monitoring.alerts.notify.channels.proxies import proxy_for, transport_through
from otel_monitoring.environment import warned

PROXY = "http://proxy.internal:3128"


def through(url: str, no: str = "", **schemes: str) -> str | None:
    return proxy_for(httpx.URL(url), {**(schemes or {"https": PROXY}), "no": no})


@pytest.mark.parametrize(
    ("url", "schemes", "proxy"),
    [
        ("https://hooks.slack.com/x", {"https": PROXY}, PROXY),
        ("http://hooks.slack.com/x", {"https": PROXY}, None),
        ("http://hooks.slack.com/x", {"all": PROXY}, PROXY),
        ("https://hooks.slack.com/x", {"all": "http://other", "https": PROXY}, PROXY),
        ("https://hooks.slack.com/x", {"https": ""}, None),
    ],
)
def test_the_proxy_is_the_one_for_the_scheme(url: str, schemes: dict[str, str], proxy: str | None) -> None:
    assert through(url, **schemes) == proxy


@pytest.mark.parametrize(
    ("no", "host"),
    [
        ("*", "anything.example.com"),
        ("example.com", "example.com"),
        ("example.com", "a.b.example.com"),
        (".example.com", "a.example.com"),
        ("*.example.com", "a.example.com"),
        ("EXAMPLE.com.", "example.COM"),
        ("example.com:443", "example.com"),
        ("10.0.0.0/8", "10.1.2.3"),
        ("10.1.2.3", "10.1.2.3"),
        ("10.1.2.3:443", "10.1.2.3"),
        ("fd00::/8", "[fd00::17]"),
        ("::1", "[::1]"),
        ("[::1]", "[::1]"),
        ("[::1]:443", "[::1]"),
        ("[fd00::]/8", "[fd00::17]"),
        ("10.0.0.0/8", "[::ffff:10.1.2.3]"),
        ("other.example.net localhost", "localhost"),
        ("xn--bcher-kva.example", "bücher.example"),
        ("bücher.example", "a.bücher.example"),
        ("other.example.net, localhost ,10.0.0.0/8", "localhost"),
    ],
)
def test_what_is_excepted_goes_directly(no: str, host: str) -> None:
    assert through(f"https://{host}/x", no) is None


@pytest.mark.parametrize(
    ("no", "host"),
    [
        ("", "example.com"),
        (",, ", "example.com"),
        ("example.com", "notexample.com"),
        ("example.com:8443", "example.com"),
        ("10.0.0.0/8", "11.1.2.3"),
        ("10.0.0.0/8", "ten.example.com"),
        ("fd00::/8", "[fe80::1]"),
        ("[::1", "[::2]"),
        ("10.0.0.0/99", "10.1.2.3"),
    ],
)
def test_everything_else_goes_through_it(no: str, host: str) -> None:
    assert through(f"https://{host}/x", no) == PROXY


@pytest.mark.parametrize(
    "proxy",
    ["socks://127.0.0.1:1", "socks5://127.0.0.1:1", "http://[::1", "gopher://x", "::", "http://", "http://x:99999"],
)
def test_what_cannot_work_is_said_once_and_done_without(proxy: str) -> None:
    assert transport_through(proxy, tls=False) is None
    assert transport_through(proxy, tls=False) is None
    assert len(warned) == 1
    assert "alerts are sent without a proxy" in warned[0]
    assert "127.0.0.1" not in warned[0], "a proxy's URL may hold a password"


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:3128", "127.0.0.1:3128", "https://user:pw@proxy.internal"])
def test_what_works_is_used(proxy: str) -> None:
    assert isinstance(transport_through(proxy, tls=False), httpx.AsyncHTTPTransport)
    assert warned == []


def test_it_is_said_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:1")
    proxies.warn_of_invalid()
    assert len(warned) == 1
