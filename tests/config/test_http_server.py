"""The variables of OpenTelemetry's request instrumentations: read as contrib reads them, never the end of a start."""

from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from otel_monitoring import environment
from otel_monitoring.config import Settings
from otel_monitoring.monitoring import MonitoringService
from tests.asgi import served

CAPTURE = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_"


@pytest.fixture(autouse=True)
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(environment, "warned", said)
    return said


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ()),
        ({"OTEL_PYTHON_EXCLUDED_URLS": " a , b,"}, ("a", "b")),
        ({"OTEL_PYTHON_EXCLUDED_URLS": "a", "OTEL_PYTHON_FASTAPI_EXCLUDED_URLS": "b"}, ("b",)),
    ],
)
def test_excluded_urls(
    monkeypatch: pytest.MonkeyPatch, warned: list[str], variables: dict[str, str], expected: tuple[str, ...]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Settings.load().excluded_urls == expected
    assert warned == []


def test_headers_and_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{CAPTURE}SERVER_REQUEST", "X-.*,accept")
    monkeypatch.setenv(f"{CAPTURE}SERVER_RESPONSE", "etag")
    monkeypatch.setenv(f"{CAPTURE}SANITIZE_FIELDS", "token")
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "GET,PURGE")
    settings = Settings.load()
    assert settings.capture_request_headers == ("X-.*", "accept")
    assert settings.capture_response_headers == ("etag",)
    assert settings.sanitize_headers == ("token",)
    assert settings.known_methods == ("GET", "PURGE")


@pytest.mark.parametrize("value", ["(", "a,*", "(?P<x>a),(?P<x>b)"])
@pytest.mark.parametrize("where", ["environment", ".env"])
@pytest.mark.parametrize(
    ("variable", "field"),
    [
        ("OTEL_PYTHON_FASTAPI_EXCLUDED_URLS", "excluded_urls"),
        ("OTEL_PYTHON_EXCLUDED_URLS", "excluded_urls"),
        (f"{CAPTURE}SERVER_REQUEST", "capture_request_headers"),
        (f"{CAPTURE}SANITIZE_FIELDS", "sanitize_headers"),
    ],
)
def test_malformed_expressions_are_one_line(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    warned: list[str],
    value: str,
    where: str,
    variable: str,
    field: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if where == ".env":
        Path(".env").write_text(f"{variable}={value}\n")
    else:
        monkeypatch.setenv(variable, value)
    assert getattr(Settings.load(), field) == ()
    assert warned == [f"{variable}: it must be regular expressions, separated by commas; it is ignored"]


def test_what_cannot_be_honoured_is_named(monkeypatch: pytest.MonkeyPatch, warned: list[str]) -> None:
    monkeypatch.setenv("OTEL_PYTHON_EXCLUDED_URLS", "https?://shop/health,live")
    monkeypatch.setenv("OTEL_PYTHON_INSTRUMENTATION_HTTP_CAPTURE_ALL_METHODS", "true")
    Settings.load()
    assert [line.split(":")[0] for line in warned] == [
        "OTEL_PYTHON_INSTRUMENTATION_HTTP_CAPTURE_ALL_METHODS",
        "OTEL_PYTHON_EXCLUDED_URLS",
    ]


@pytest.mark.anyio
async def test_an_excluded_request_is_in_no_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_EXCLUDED_URLS", "^/internal")
    app = FastAPI()
    service = MonitoringService(None, store="memory").instrument(app)

    @app.get("/{rest:path}")
    async def answer(rest: str) -> str:
        if rest.startswith("internal"):
            raise ValueError(rest)
        return rest

    async with served(app):
        over = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=over, base_url="http://internal") as client:
            for path in ("/internal/x", "/orders", "/a/internal"):
                await client.get(path)
        summary = await service.performance_metrics.get_summary()
    assert (summary["requests_recorded"], summary["error_count"], summary["last_error"]) == (2, 0, None)
