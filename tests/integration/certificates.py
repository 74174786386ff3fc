"""Certificates for tests of TLS, made with openssl when they are needed."""

import subprocess
from pathlib import Path
from shutil import which

from tests.conftest import unavailable


def authority(folder: Path) -> Path:
    """A certificate authority with certificates for a server and for a client, as files in `folder`."""
    openssl = which("openssl")
    if openssl is None:
        unavailable("certificates for the test are made with openssl: install it")

    def run(*command: str) -> None:
        subprocess.run([openssl, *command], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    run("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority", "-days", "2")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost")
    for name in ("server", "client"):
        run("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", f"{name}.pem", "-days", "2", "-extfile", "names")  # fmt: skip
    return folder
