"""What the environment asks of the library `requests`, with which the SDK's exporters send over HTTP by default."""

import os
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies

_AUTHORITIES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_CREDENTIAL_PROVIDERS: Final = tuple(
    f"OTEL_PYTHON_EXPORTER_OTLP_HTTP_{signal}CREDENTIAL_PROVIDER" for signal in ("", "TRACES_", "METRICS_", "LOGS_")
)
_VARIABLES: Final = ("NETRC", *_CREDENTIAL_PROVIDERS)


def needs_requests(url: str, authority: Path | None) -> bool:
    """Whether an export to `url` needs what our own transport does not do.

    That is a proxy, a password of the URL or of a .netrc file, a credential provider, and over TLS the certificates
    that a variable of `requests` or curl names, or a folder of certificates.

    Args:
        url: The endpoint.
        authority: The file or folder of those who may have signed the server's certificate.
    """
    parts = urlsplit(url)
    proxies = getproxies()
    variables = (*_VARIABLES, *_AUTHORITIES) if parts.scheme == "https" else _VARIABLES
    return bool(
        parts.username is not None
        or proxies.get(parts.scheme)
        or proxies.get("all")
        or (authority is not None and authority.is_dir())
        or any(os.environ.get(name) for name in variables)
        or _has_netrc()
    )


def names_credential_provider() -> bool:
    """Whether the environment names a provider of credentials, which makes the session of `requests` itself."""
    return any(os.environ.get(name) for name in _CREDENTIAL_PROVIDERS)


def _has_netrc() -> bool:
    try:
        return any((Path.home() / name).exists() for name in (".netrc", "_netrc"))
    except (RuntimeError, OSError):  # a user without a home, or with one that is not theirs to read
        return False
