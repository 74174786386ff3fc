"""Check: the database answers, and its collections can be read."""

import asyncio
from collections.abc import Iterator
from typing import Any

from otel_monitoring.cli.doctor.findings import Examination, Finding, Level
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.health.status import HEALTHY

_NAME = "database"


def database(examination: Examination) -> Iterator[Finding]:
    """Ping the database and read its collections' counts and indexes, as the service does."""
    uri = examination.database_uri
    if uri is None:
        advice = "pass --database URI to examine the one the application uses"
        yield Finding(_NAME, Level.SKIPPED, "OTEL_MONITORING_DATABASE_URI is not set", advice)
        return
    try:
        from otel_monitoring.health.database import DatabaseHealthChecker
        from otel_monitoring.instrumentation.mongodb.own_client import check_uri, database_at

        check_uri(uri)
        handle = database_at(uri, timeout=examination.timeout)
    except ImportError:
        yield Finding(_NAME, Level.FAILED, "PyMongo is not installed", "pip install 'otel-monitoring[mongodb]'")
        return
    except ConfigurationError as error:
        yield Finding(_NAME, Level.FAILED, str(error), "correct the connection string")
        return
    except ConnectionError as error:
        advice = "is the name right, does it resolve here, and are the files there? A service starts without, and waits"
        yield Finding(_NAME, Level.FAILED, str(error), advice)
        return
    try:
        answer = asyncio.run(DatabaseHealthChecker(handle, check_timeout=examination.timeout).check_health())
    finally:
        handle.client.close()
    yield from _findings(handle.name, answer)


def _findings(name: str, answer: dict[str, Any]) -> Iterator[Finding]:
    if answer["response_time_ms"] is None:
        advice = "is it running and reachable from here, and are user and password right?"
        yield Finding(_NAME, Level.FAILED, f"{name}: {answer.get('error', answer['status'])}", advice)
        return
    level = Level.OK if answer["status"] == HEALTHY else Level.WARNING
    message = f"{name} answers in {answer['response_time_ms']:.1f} ms, {len(answer['collections'])} collections"
    yield Finding(_NAME, level, message, None if level is Level.OK else "it is slow")
    if "collections_error" in answer:
        advice = f"grant the role read on {name}: without it, no document counts"
        yield Finding(_NAME, Level.WARNING, answer["collections_error"], advice)
