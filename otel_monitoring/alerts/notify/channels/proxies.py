"""The proxies of the environment: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`.

httpx reads these variables too, but raises for networks (`fd00::/8`), bracketed addresses (`[::1]`) and `socks://`, and
takes `10.0.0.0/8` for a name. An invalid variable is logged once and ignored.
"""

import re
import ssl
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.request import getproxies

import httpx

from otel_monitoring.environment import warn_once

_SOCKS = "socks"
_PORTS = 65_536


class EnvironmentProxies(httpx.AsyncBaseTransport):
    """Connects through the proxy that the environment names for a request's scheme and host, or directly.

    Args:
        tls: The TLS context that verifies certificates.
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._proxies = getproxies()
        self._transports: dict[str | None, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request through its proxy, or directly."""
        proxy = proxy_for(request.url, self._proxies)
        if proxy not in self._transports:
            transport = transport_through(proxy, self._tls) or httpx.AsyncHTTPTransport(verify=self._tls)
            self._transports[proxy] = transport
        return await self._transports[proxy].handle_async_request(request)

    async def aclose(self) -> None:
        """Close all connections."""
        for transport in self._transports.values():
            await transport.aclose()


def warn_of_invalid() -> None:
    """Log the invalid proxy variables, at the start."""
    proxies = getproxies()
    for scheme in ("http", "https", "all"):
        transport_through(proxies.get(scheme), tls=False)


def transport_through(proxy: str | None, tls: ssl.SSLContext | bool) -> httpx.AsyncHTTPTransport | None:
    """A transport through `proxy`; None without a proxy, and for an invalid one, which is logged once."""
    if not proxy:
        return None
    url = proxy if "://" in proxy else f"http://{proxy}"
    if url.startswith(f"{_SOCKS}://"):
        url = f"{_SOCKS}5://{url.partition('://')[2]}"
    try:
        if httpx.URL(url).host and (httpx.URL(url).port or 0) < _PORTS:
            return httpx.AsyncHTTPTransport(verify=tls, proxy=url)
    except ImportError:
        warn_once(
            "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY: SOCKS needs `pip install socksio`; alerts are sent without a proxy"
        )
        return None
    except (ValueError, TypeError, httpx.InvalidURL):
        pass
    warn_once("HTTP_PROXY, HTTPS_PROXY, ALL_PROXY: a value is not a proxy URL; alerts are sent without a proxy")
    return None


def proxy_for(url: httpx.URL, proxies: dict[str, str]) -> str | None:
    """The proxy for `url`; None: connect directly.

    Args:
        url: The URL of the request.
        proxies: The result of `urllib.request.getproxies`: by scheme, `all` for any scheme, `no` for the exceptions.
    """
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or any(_matches(entry, url) for entry in re.split(r"[,\s]+", proxies.get("no", ""))):
        return None
    return proxy


def _matches(entry: str, url: httpx.URL) -> bool:
    """Whether an entry of `NO_PROXY` matches the host and port of `url`, by the rules of curl and Go.

    An entry is a name, which also matches its subdomains, an address, a network or `*`; it may end with a port.
    """
    name, port = _name_and_port(entry.lower())
    if not name or (port and port != str(url.port or {"http": 80, "https": 443}.get(url.scheme))):
        return False
    network = _network(name)
    if network is not None:
        return any(address in network for address in _addresses(url.host))
    suffix = _in_ascii(name.removeprefix("*").removeprefix(".").removesuffix("."))
    host = url.raw_host.decode("ascii").lower().removesuffix(".")
    return name == "*" or host == suffix or (bool(suffix) and host.endswith(f".{suffix}"))


def _in_ascii(name: str) -> str:
    """A host name in ASCII, as the URL of a request has it."""
    try:
        return name if name.isascii() else httpx.URL(f"http://{name}").raw_host.decode("ascii")
    except (httpx.InvalidURL, ValueError):
        return name


def _addresses(host: str) -> list[IPv4Address | IPv6Address]:
    """The address that `host` is, with the IPv4 address that is mapped in it; empty for a name."""
    try:
        address = ip_address(host)
    except ValueError:
        return []
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return [address, mapped] if mapped is not None else [address]


def _name_and_port(entry: str) -> tuple[str, str]:
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return (f"{name}{rest}", "") if rest.startswith("/") else (name, rest.removeprefix(":"))
    if entry.count(":") == 1:
        name, _, port = entry.partition(":")
        return name, port
    return entry, ""


def _network(name: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(name, strict=False)
    except ValueError:
        return None
