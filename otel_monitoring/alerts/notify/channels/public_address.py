"""Connections to public addresses only, so that a webhook cannot reach into the service's network (SSRF).

The check is made on the address that is connected to: a name is resolved once. A name server that answers differently
the next time (DNS rebinding) changes nothing.

Slack and Alertmanager URLs are not checked: Alertmanager, and chats with Slack's API such as Mattermost, usually are in
the service's own network, and only the text of alerts is sent there.
"""

import asyncio
import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import httpx

from otel_monitoring.errors import DeliveryError

_NAT64 = IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = IPv6Network("2000::/3")
"""All addresses that IANA assigns to hosts on the internet; `ipaddress` calls much of the unassigned rest global."""
_CLOUD_PLATFORMS = (IPv4Network("168.63.129.16/32"), IPv4Network("192.0.0.0/24"))
"""The platform services of Azure and of Oracle's cloud, in ranges that `ipaddress` calls global; those of other clouds
are link-local, unique-local or in the shared range of carriers."""
_NOT_GLOBAL = (
    IPv4Network("192.88.99.0/24"),  # relays of 6to4: RFC 7526
    IPv6Network("2001::/23"),  # protocol assignments, Teredo among them: RFC 2928
    IPv6Network("2001:db8::/32"),  # documentation: RFC 3849
    IPv6Network("3fff::/20"),  # documentation: RFC 9637
)
"""Ranges that `ipaddress` calls global in some version of Python: its tables follow the registry of their time."""
_ADDRESSES_TRIED = 4

NOT_PUBLIC = "host is no public address; ALERT_WEBHOOK_ALLOW_PRIVATE=true allows it"
"""The end of the error for a webhook whose host is refused."""


def is_public(address: str) -> bool:
    """Whether an IP address is a unicast address on the internet.

    Raises:
        ValueError: The text is no IP address.
    """
    target = _translated(ip_address(address))
    if isinstance(target, IPv6Address) and target not in _GLOBAL_UNICAST:
        return False
    excluded = any(target in network for network in (*_CLOUD_PLATFORMS, *_NOT_GLOBAL))
    return target.is_global and not target.is_multicast and not excluded


def _translated(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that gateways extract from an IPv6 address (mapped, 6to4, NAT64), else the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address


def is_private_literal(host: str) -> bool:
    """Whether `host` is an address that is not public, or `localhost`; a name of another host is False.

    IPv4 addresses are parsed as resolvers do: `0177.0.0.1`, `0x7f.1` and `2130706433` are 127.0.0.1.
    """
    host = host.lower().removesuffix(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = host if ":" in host else socket.inet_ntoa(socket.inet_aton(host))
        return not is_public(address)
    except (OSError, ValueError):
        return False


class PinnedTransport(httpx.AsyncBaseTransport):
    """Resolves the host of a request once and connects to the resolved addresses, if they are allowed.

    Args:
        inner: Makes the connections. The `Host` header and the verified name stay those of the host.
        allow_private: Allow addresses that are not public.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport, *, allow_private: bool) -> None:
        self._inner = inner
        self._allow_private = allow_private

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request to the first of the host's addresses that accepts a connection.

        Raises:
            DeliveryError: The host has no public address.
            httpx.TransportError: No address accepts a connection, or the name does not resolve.
        """
        host = request.url.raw_host.decode("ascii")
        resolved = await _resolve(request, host)
        allowed = [address for address in resolved if self._allow_private or is_public(address)]
        if not allowed:
            raise DeliveryError(f"The webhook's {NOT_PUBLIC}", retryable=True)
        for address in allowed[:_ADDRESSES_TRIED]:
            try:
                return await self._inner.handle_async_request(_pinned(request, host, address))
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
        raise failure

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


async def _resolve(request: httpx.Request, host: str) -> list[str]:
    try:
        answers = await asyncio.get_running_loop().getaddrinfo(host, request.url.port or 0, type=socket.SOCK_STREAM)
    except OSError as error:
        raise httpx.ConnectError(str(error), request=request) from error
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in answers))


def _pinned(request: httpx.Request, host: str, address: str) -> httpx.Request:
    """The same request to an address; the certificate is verified against `sni_hostname`."""
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": host},
    )
