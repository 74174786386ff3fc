"""Which addresses a webhook may reach."""

import pytest

from otel_monitoring.alerts.notify.channels.public_address import is_private_literal, is_public


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",  # noqa: S104 - to be refused
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%lo",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2001:db8::1",
        "fec0::1",
        "feff::1",
        "::127.0.0.1",
        "::8.8.8.8",
        "::ffff:0:127.0.0.1",
        "::ffff:0:8.8.8.8",
        "64:ff9b:1::808:808",
        "100::1",
        "192.88.99.1",
        "2001:0:808:808::1",
        "3fff::1",
        "5f00::1",
        "::ffff:0:0:7f00:1",
        "::1:2:3:4",
        "4000::1",
        "fc00::1",
        "2001:20::1",
        "2002:a9fe:a9fe::",
    ],
)
def test_addresses_of_machines_and_clouds_themselves_are_not_public(address: str) -> None:
    assert not is_public(address)
    assert is_private_literal(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::808:808"])
def test_hosts_on_the_internet_are(address: str) -> None:
    assert is_public(address)
    assert not is_private_literal(address)


def test_names_are_judged_by_what_they_resolve_to_but_for_localhost() -> None:
    assert is_private_literal("localhost")
    assert is_private_literal("orders.localhost")
    assert is_private_literal("LOCALHOST.")
    assert not is_private_literal("localhost.example.com")
    assert not is_private_literal("hooks.example.com")


@pytest.mark.parametrize(
    "host", ["0177.0.0.1", "0x7f.1", "0x7F000001", "2130706433", "127.1", "127.0.0.1.", "017700000001", "10.0x10.1"]
)
def test_addresses_are_read_as_resolvers_read_them(host: str) -> None:
    assert is_private_literal(host)


@pytest.mark.parametrize(
    "host", ["0x08.8.8.8", "134744072", "8.2056", "10.example.com", "0x7f", "127.0.0.1.example.com", ""]
)
def test_what_resolvers_read_as_public_or_as_a_name_is_allowed(host: str) -> None:
    assert is_private_literal(host) is (host == "0x7f")  # 0.0.0.127: "this network", RFC 1122
