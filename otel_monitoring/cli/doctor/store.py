"""Check: the database that hosts share for alerts and totals can be read and written."""

import time
from collections.abc import Iterator
from uuid import uuid4

from otel_monitoring.alerts.store.sqlite.state_file import service_key
from otel_monitoring.cli.doctor.findings import Examination, Finding, Level
from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import ConfigurationError, StoreError

_NAME = "store"


def store(examination: Examination) -> Iterator[Finding]:
    """Read from the store's database, and delete what is not there, which needs the right to write."""
    settings = examination.settings
    if settings is None:
        yield Finding(_NAME, Level.SKIPPED, "the settings are not valid")
    elif settings.store != "mongodb":
        yield Finding(_NAME, Level.SKIPPED, f"OTEL_MONITORING_STORE={settings.store}: no database")
    elif settings.store_uri is None and examination.database_uri is None:
        advice = "pass --database URI, or set OTEL_MONITORING_STORE_URI"
        yield Finding(
            _NAME, Level.SKIPPED, "OTEL_MONITORING_STORE=mongodb: it is in the application's database", advice
        )
    else:
        yield _finding(settings, examination.database_uri)


def _finding(settings: Settings, database_uri: str | None) -> Finding:
    try:
        from otel_monitoring.alerts.store.mongodb import MongoStore
        from otel_monitoring.alerts.store.mongodb.client import opener
    except ImportError:
        return Finding(_NAME, Level.FAILED, "PyMongo is not installed", "pip install 'otel-monitoring[mongodb]'")
    try:
        if database_uri is not None:
            settings = Settings.load(database_uri=database_uri)
    except ConfigurationError as error:
        return Finding(_NAME, Level.FAILED, str(error), "correct the connection string")
    found = MongoStore(opener(settings, lambda: None), service_key(settings.service_name or "", settings.environment))
    try:
        found.history.counts()
        began = time.perf_counter()
        found.reports.delete(f"doctor-{uuid4().hex}")
        took = 1000 * (time.perf_counter() - began)
    except StoreError as error:
        advice = "correct OTEL_MONITORING_STORE_URI, or grant readWrite there; meanwhile each host alerts for itself"
        return Finding(_NAME, Level.FAILED, str(error), advice)
    finally:
        found.close()
    return Finding(_NAME, Level.OK, f"MongoDB: it can be read and written, in {took:.1f} ms")
