"""A certificate authority for one test session."""

import ssl
from pathlib import Path

import trustme


class Authority:
    """Issues server certificates; `trusted` is the file a client must trust."""

    def __init__(self, directory: Path) -> None:
        self._ca = trustme.CA()
        self.trusted = directory / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.trusted))

    def server(self, *names: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*names).configure_cert(context)
        return context
