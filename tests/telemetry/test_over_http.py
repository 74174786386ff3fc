"""OTLP over HTTP without the library `requests`, against real servers."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from otel_monitoring import seams
from otel_monitoring.config.otlp import OtlpSettings
from otel_monitoring.telemetry.otlp_exporters import make_exporter
from tests.http_server import Answer, HttpServer
from tests.integration.authority import Authority
from tests.otlp_sink import HttpSink

pytestmark = pytest.mark.usefixtures("direct_connections")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "20")


@contextmanager
def exporting(**settings: Any) -> Iterator[Callable[[], str]]:
    """A function that exports and says how it went."""
    exporter = make_exporter("traces", OtlpSettings(**settings))
    try:
        yield lambda: str(exporter.export([]).name)
    finally:
        exporter.shutdown()


@contextmanager
def over_tls(authority: Authority, name: str) -> Iterator[HttpSink]:
    with HttpSink() as sink:
        sink._server.socket = authority.server(name).wrap_socket(sink._server.socket, server_side=True)
        sink.endpoint = f"https://localhost:{sink.port}"
        yield sink


def test_an_export_loads_no_requests() -> None:
    with HttpSink() as sink:
        script = f"""
import sys
from otel_monitoring.config.otlp import OtlpSettings
from otel_monitoring.telemetry.otlp_exporters import make_exporter
for signal in ("traces", "metrics", "logs"):
    make_exporter(signal, OtlpSettings(otlp_endpoint={sink.endpoint!r}))
make_exporter("traces", OtlpSettings(otlp_endpoint={sink.endpoint!r})).export([])
print(sorted({{"requests", "charset_normalizer", "urllib3"}} & sys.modules.keys()))
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert sink.attempts == 1
    assert done.stdout == "[]\n"


def test_what_the_settings_name_may_have_signed(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with (
        over_tls(authority, "localhost") as sink,
        exporting(otlp_endpoint=sink.endpoint, otlp_certificate=authority.trusted) as export,
    ):
        assert export() == "SUCCESS"


@pytest.mark.parametrize(("trusted", "name"), [(False, "localhost"), (True, "elsewhere.example.com")])
def test_a_server_that_is_not_the_one_gets_nothing(
    trusted: bool, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")  # the SDK tries again until then
    authority = Authority(tmp_path)
    with (
        over_tls(authority, name) as sink,
        exporting(otlp_endpoint=sink.endpoint, otlp_certificate=authority.trusted if trusted else None) as export,
    ):
        assert export() == "FAILURE"
        assert sink.attempts == 0


def test_a_password_of_the_url_is_sent() -> None:
    with HttpSink() as sink:
        with exporting(otlp_endpoint=sink.endpoint.replace("//", "//me:open%20sesame@")) as export:
            assert export() == "SUCCESS"
        assert sink.requests[0].headers["authorization"] == "Basic bWU6b3BlbiBzZXNhbWU="


@pytest.mark.parametrize("login", ["", "me:sesame@"])  # with a login, `requests` sends
def test_a_redirection_is_no_success(login: str) -> None:
    with HttpServer(lambda _: Answer(301, b"moved", {"Location": "/elsewhere"})) as server:
        with exporting(otlp_endpoint=server.url.replace("//", f"//{login}")) as export:
            assert export() == "FAILURE"
        assert len(server.requests) == 1


def test_an_sdk_without_the_seam_sends_with_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry.exporter.otlp.proto.http import trace_exporter

    original: Callable[..., object] = trace_exporter.OTLPSpanExporter

    def of_another_release(**options: object) -> object:
        if "_transport" in options:
            raise TypeError("unexpected keyword argument")
        return original(**options)

    monkeypatch.setattr(trace_exporter, "OTLPSpanExporter", of_another_release)
    with HttpSink() as sink:
        with exporting(otlp_endpoint=sink.endpoint) as export:
            assert export() == "SUCCESS"
        assert sink.attempts == 1
    assert not seams.HTTP_TRANSPORT.holds
