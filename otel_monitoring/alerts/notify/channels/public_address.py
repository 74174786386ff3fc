"""Connections to public addresses only: a webhook is no way into the network the service stands in.

The check is made on the very address that is connected to: a name is resolved once and the answer is used, so a name
server that answers differently the next time (DNS rebinding) gains nothing.

Slack and Alertmanager URLs are not asked about: Alertmanager, and chats that speak Slack's form (Mattermost), usually
stand in the service's own network, and the alert's text is all that goes there.
"""

import asyncio
import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import httpx

from otel_monitoring.errors import DeliveryError

_NAT64 = IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = IPv6Network("2000::/3")
"""All that IANA gives to hosts on the internet; Python calls much of the unassigned rest global."""
_PLATFORM = (IPv4Network("168.63.129.16/32"), IPv4Network("192.0.0.0/24"))
"""Where machines on Azure and Oracle's cloud reach its platform services, in ranges that Python calls global; the other
clouds' are link-local, unique-local or in the shared range of carriers."""
_NEVER_PUBLIC = (
    IPv4Network("192.88.99.0/24"),  # relays of 6to4: RFC 7526
    IPv6Network("2001::/23"),  # protocol assignments, Teredo among them: RFC 2928
    IPv6Network("2001:db8::/32"),  # documentation: RFC 3849
    IPv6Network("3fff::/20"),  # documentation: RFC 9637
)
"""What one Python or another calls global: its tables follow the registry of its day."""
_MOST_ADDRESSES = 4

NOT_PUBLIC = "host is no public address; ALERT_WEBHOOK_ALLOW_PRIVATE=true allows it"
"""Why a webhook's host is refused."""


def is_public(address: str) -> bool:
    """Whether an IP address is reachable on the internet and means one host there.

    Raises:
        ValueError: It is no IP address.
    """
    meant = _meant(ip_address(address))
    if isinstance(meant, IPv6Address) and meant not in _GLOBAL_UNICAST:
        return False
    return meant.is_global and not meant.is_multicast and not any(meant in net for net in (*_PLATFORM, *_NEVER_PUBLIC))


def _meant(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that gateways take out of an IPv6 address (mapped, 6to4, NAT64), else the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address


def is_private_literal(host: str) -> bool:
    """Whether `host` is an address that is not public, or a name that always means this machine.

    IPv4 addresses are read as resolvers read them: `0177.0.0.1`, `0x7f.1` and `2130706433` are 127.0.0.1.
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
    """Resolves a request's host itself and connects to what it found, if that is allowed.

    Args:
        inner: Makes the connections. Host header and the certificate's name stay the host's.
        allow_private: Do not ask whether addresses are public.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport, *, allow_private: bool) -> None:
        self._inner = inner
        self._allow_private = allow_private

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Try the host's addresses in turn until one can be connected to.

        Raises:
            DeliveryError: None of them is public.
            httpx.TransportError: None of them answered, or the name has none.
        """
        host = request.url.raw_host.decode("ascii")
        found = await _resolve(request, host)
        allowed = [address for address in found if self._allow_private or is_public(address)]
        if not allowed:
            raise DeliveryError(f"The webhook's {NOT_PUBLIC}", retryable=True)
        for address in allowed[:_MOST_ADDRESSES]:
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
    """The same request to an address; `sni_hostname` is also what the certificate is checked against."""
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": host},
    )
