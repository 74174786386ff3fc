"""What is left to the library `requests`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from otel_monitoring.config.requests import needs_requests

pytestmark = pytest.mark.usefixtures("direct_connections")

NEEDED: dict[str, tuple[str, str]] = {
    "a proxy": ("HTTP_PROXY", "http://127.0.0.1:3128"),
    "a proxy for everything": ("all_proxy", "socks5://127.0.0.1:1080"),
    "a file of passwords": ("NETRC", "/run/secrets/netrc"),
    "certificates that requests trusts": ("REQUESTS_CA_BUNDLE", "/etc/ssl/ours.pem"),
    "certificates that curl trusts": ("CURL_CA_BUNDLE", "/etc/ssl/ours.pem"),
    "credentials": ("OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER", "gcp"),
    "credentials of a signal": ("OTEL_PYTHON_EXPORTER_OTLP_HTTP_LOGS_CREDENTIAL_PROVIDER", "gcp"),
}


@pytest.mark.parametrize("case", NEEDED)
def test_what_requests_alone_can_do_is_left_to_it(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not needs_requests("http://collector:4318/v1/traces", None)
    name, value = NEEDED[case]
    monkeypatch.setenv(name, value)
    assert needs_requests("http://collector:4318/v1/traces", None) == (not name.endswith("CA_BUNDLE"))
    assert needs_requests("https://collector:4318/v1/traces", None) == (name != "HTTP_PROXY")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become a user whom nobody knows")
def test_a_user_without_a_home_has_no_netrc() -> None:
    script = """
import os, pwd
from otel_monitoring.config.requests import needs_requests
os.setuid(54321)
print(needs_requests("http://collector:4318", None))
"""
    variables = {name: value for name, value in os.environ.items() if name != "HOME"}
    done = subprocess.run([sys.executable, "-c", script], env=variables, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_a_netrc_file_is_left_to_it(tmp_path: Path) -> None:
    (tmp_path / ".netrc").touch()
    assert needs_requests("http://collector:4318", None)


def test_what_the_exporters_settings_say_may_need_it(tmp_path: Path) -> None:
    assert needs_requests("https://me:secret@collector:4318", None)
    assert needs_requests("https://collector:4318", tmp_path)
    (tmp_path / "authority.pem").touch()
    assert not needs_requests("https://collector:4318", tmp_path / "authority.pem")
