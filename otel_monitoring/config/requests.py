"""What the environment tells the library `requests`, with which the SDK's exporters send over HTTP."""

import os
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies

_PROVIDERS: Final = tuple(
    f"OTEL_PYTHON_EXPORTER_OTLP_HTTP_{signal}CREDENTIAL_PROVIDER" for signal in ("", "TRACES_", "METRICS_", "LOGS_")
)


def needs_requests(url: str) -> bool:
    """Whether `requests` does more for `url` than a direct connection: a proxy is named, or credentials."""
    proxies = getproxies()
    return bool(
        proxies.get(urlsplit(url).scheme)
        or proxies.get("all")
        or any(os.environ.get(name) for name in ("NETRC", *_PROVIDERS))
        or _has_netrc()
    )


def _has_netrc() -> bool:
    try:
        return any((Path.home() / name).exists() for name in (".netrc", "_netrc"))
    except (RuntimeError, OSError):  # a user without a home, or with one that is not theirs to read
        return False


def authority_of_requests() -> str | None:
    """The file or folder of those who may have signed a server's certificate; it wins over an exporter's own."""
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
