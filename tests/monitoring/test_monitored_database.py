"""A database that cannot be reached by its setting yet keeps no service from starting, and is watched once it can."""

import logging
import shutil
from pathlib import Path
from typing import Any

import certifi
import pytest
from fastapi import FastAPI
from pymongo import MongoClient

from otel_monitoring import ConfigurationError, MonitoringService
from otel_monitoring.monitoring.monitored_database import PendingDatabase
from tests.asgi import served

pytestmark = pytest.mark.anyio


async def test_a_file_that_the_connection_string_names_comes_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = tmp_path / "ca.pem"
    uri = f"mongodb://ana:hunter2@127.0.0.1:1/shop?tls=true&tlsCAFile={authority}&serverSelectionTimeoutMS=50"
    caplog.set_level(logging.INFO, "otel_monitoring")
    app = FastAPI(title="orders")
    monitoring = MonitoringService(None, database_uri=uri, access="open", check_timeout=0.2).instrument(app)
    async with served(app) as http:
        assert (await http.get("/api/health")).status_code == 200
        database = (await http.get("/api/health/detailed")).json()["database"]
        assert database["status"] == "unknown"
        assert "FileNotFoundError" in database["error"]
        assert "database (unknown: FileNotFoundError" in caplog.text
        await monitoring._parts.check_database()
        assert monitoring.db_checker.status == "unknown", "it is tried again, and is not there yet"
        shutil.copy(certifi.where(), authority)
        while monitoring.db_checker.status == "unknown":  # a process that is too busy hears no answer in time
            await monitoring._parts.check_database()
        assert monitoring.db_checker.description == "shop (unhealthy)"
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("uri", ["mongodb://", "mongodb+srv://ana:hun/ter2@db.example.com/", "mongodb://x:99999/"])
async def test_what_is_no_connection_string_stops_the_start(uri: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^OTEL_MONITORING_DATABASE_URI: it is no usable") as refused:
        MonitoringService(None, database_uri=uri).instrument(FastAPI())
    assert "ter2" not in str(refused.value)


async def test_a_name_is_not_resolved_at_the_start() -> None:
    service = MonitoringService(None, database_uri="mongodb+srv://db.example.invalid/shop").instrument(FastAPI())
    assert service.db_checker.description == "(unknown: its name is not resolved yet)"


async def test_a_handle_that_is_given_meanwhile_wins() -> None:
    client: MongoClient[Any] = MongoClient("mongodb://127.0.0.1:1", connect=False, serverSelectionTimeoutMS=20)
    service = MonitoringService(None).instrument(FastAPI())
    watched = service._parts._monitored

    def make() -> object:
        watched.use(client["given"])
        return client["resolved"]

    watched.use(PendingDatabase(make, "not yet"))
    await watched.make_pending()
    assert service.db_checker._name == "given"
    client.close()
