"""TLS to Prometheus, with an authority of one's own and with a client certificate, as a server demands it."""

import ssl
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import PrometheusError
from otel_monitoring.prometheus.client import Server
from tests.integration.certificates import authority
from tests.threaded_server import ThreadedServer

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

app = FastAPI()


@app.post("/api/v1/query")
async def query() -> dict[str, Any]:
    return {"data": {"result": [{"metric": {}, "value": [0, "1"]}]}}


async def test_the_authority_and_our_certificate_are_those_of_the_settings(tmp_path: Path) -> None:
    files = authority(tmp_path)
    server = ThreadedServer(
        app,
        ssl_keyfile=str(files / "server.key"),
        ssl_certfile=str(files / "server.pem"),
        ssl_ca_certs=str(files / "ca.pem"),
        ssl_cert_reqs=ssl.CERT_REQUIRED,
    )
    trusted = {"prometheus_certificate": str(files / "ca.pem")}
    ours = {
        "prometheus_client_certificate": str(files / "client.pem"),
        "prometheus_client_key": str(files / "client.key"),
    }

    async def asked(**given: str) -> list[dict[str, Any]]:
        settings = Settings.load(prometheus_url=f"https://127.0.0.1:{server.port}", prometheus_timeout=20, **given)
        return await Server.of_prometheus(settings).ask(lambda connection: connection.query("up"))

    try:
        assert await asked(**trusted, **ours) == [{"metric": {}, "value": [0, "1"]}]
        for given in ({}, trusted, ours):
            with pytest.raises(PrometheusError):
                await asked(**given)
    finally:
        server.stop()
