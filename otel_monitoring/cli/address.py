"""`ServiceAddress`: parses a service's URL as people type it, with or without scheme, prefix, endpoint and login."""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import unquote, urlsplit

_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_ENDPOINT: Final = re.compile(
    r"/(health|health/(live|ready|detailed|metrics|diagnostics)|alerts/[a-z]+|docs|openapi\.json)$"
)
_DEFAULT_PREFIX: Final = "/api"


@dataclass(frozen=True, slots=True)
class ServiceAddress:
    """A service's address.

    Attributes:
        bases: URLs below which the endpoints may be, the likeliest first, without the login.
        login: User and password of the URL, None without them.
        host: Name or address; an IPv6 address is in brackets.
        local: Whether the host is this machine.
    """

    bases: tuple[str, ...]
    login: tuple[str, str] | None
    host: str
    local: bool

    @classmethod
    def of(cls, url: str, *, prefix: str | None = None) -> "ServiceAddress":
        """Parse `url`.

        Args:
            url: `http://host:8000`, `host:8000`, `http://host/shop`, `https://host/shop/api/health`, …
            prefix: The service's prefix, None where it is not known.

        Raises:
            ValueError: It is no HTTP URL. The message contains no password.
        """
        url, shown = url.strip(), re.sub(r"[^\s]*@", "", url.strip())
        try:
            parts = urlsplit(url if _SCHEME.match(url) else f"http://{url}")
        except ValueError:
            raise ValueError(f"{shown!r} is no URL like http://localhost:8000") from None
        try:
            port = parts.port
        except ValueError:
            hint = ", or write the IPv6 address in [brackets]" if shown.count(":") > 2 else ""
            raise ValueError(f"{shown!r} has a port that is no number from 0 to 65535{hint}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{shown!r} is no URL like http://localhost:8000")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        origin = f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")
        login = (unquote(parts.username or ""), unquote(parts.password or "")) if "@" in parts.netloc else None
        path = _ENDPOINT.sub("", parts.path.rstrip("/"))
        prefixes = dict.fromkeys(
            f"/{one.strip('/')}".rstrip("/") for one in (prefix, _DEFAULT_PREFIX) if one is not None
        )
        # The prefix may be at the end of the path already, or follow it. Without a path the prefix is the first guess.
        below = [path + one for one in prefixes]
        found = [path, *below] if parts.path.strip("/") else [*below, path]
        return cls(tuple(dict.fromkeys(origin + one for one in found)), login, host, _is_local(parts.hostname))


def _is_local(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
