"""Check: this machine's clock against those of the OTLP endpoint, the service and the database."""

import ssl
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx

from otel_monitoring.cli.client import DeniedError, UnreachableError
from otel_monitoring.cli.doctor.findings import Examination, Finding, Level
from otel_monitoring.config.otlp import SIGNALS
from otel_monitoring.config.settings import Settings

_NAME = "clock"
_WARNING_SECONDS = 2.0
_FAILED_SECONDS = 60.0
_RESOLUTION = 1.0
"""Seconds: a `Date` header has whole ones (RFC 9110, section 5.6.7)."""


def clock(examination: Examination) -> Iterator[Finding]:
    """Compare the clock with the `Date` header of endpoint and service, and with the `localTime` of the database."""
    compared = False
    for source, skew in (*_of_endpoints(examination), *_of_service(examination), *_of_database(examination)):
        compared = True
        yield _finding(source, skew)
    if not compared:
        yield Finding(_NAME, Level.SKIPPED, "nobody to compare it with")


def _finding(source: str, skew: float) -> Finding:
    size = abs(skew)
    if size <= _WARNING_SECONDS:
        return Finding(_NAME, Level.OK, f"agrees with {source} within {_WARNING_SECONDS:.0f} s")
    direction = "ahead of" if skew > 0 else "behind"
    return Finding(
        _NAME,
        Level.FAILED if size > _FAILED_SECONDS else Level.WARNING,
        f"this machine's clock is {size:.0f} s {direction} that of {source}",
        "synchronise the clocks (NTP): telemetry is ordered, and by some backends refused, by its time",
    )


def _of_endpoints(examination: Examination) -> Iterator[tuple[str, float]]:
    urls = dict.fromkeys(_otlp_urls(examination.settings)) if examination.settings is not None else {}
    verify = _verification(examination.settings)
    for url in urls:
        before = time.time()
        try:
            answer = httpx.get(url, timeout=examination.timeout, verify=verify)
            date = parsedate_to_datetime(answer.headers["date"]).timestamp()
        except (httpx.HTTPError, KeyError, ValueError):
            continue  # the check of OTLP reports it
        yield urlsplit(url).netloc.rpartition("@")[2], _skew(before, time.time(), date, _RESOLUTION)


def _of_service(examination: Examination) -> Iterator[tuple[str, float]]:
    if examination.service is None:
        return
    before = time.time()
    try:
        answer = examination.service.get("/health/live")
        date = parsedate_to_datetime(answer.date or "").timestamp() if answer is not None else None
    except (UnreachableError, DeniedError, ValueError):
        return  # the check of the service reports it
    if date is not None:
        yield urlsplit(examination.service.url).netloc, _skew(before, time.time(), date, _RESOLUTION)


def _otlp_urls(settings: Settings) -> Iterator[str]:
    for signal in SIGNALS:
        endpoint = settings.endpoint(signal)
        if endpoint is not None and settings.protocol(signal) == "http/protobuf":
            yield urlsplit(endpoint)._replace(path="/", query="").geturl()


def _verification(settings: Settings | None) -> ssl.SSLContext | bool:
    if settings is None or settings.otlp_certificate is None:
        return True
    return ssl.create_default_context(cafile=str(settings.otlp_certificate))


def _of_database(examination: Examination) -> Iterator[tuple[str, float]]:
    if examination.database_uri is None:
        return
    try:
        from otel_monitoring.instrumentation.mongodb.own_client import database_at

        handle = database_at(examination.database_uri, timeout=examination.timeout)
        try:
            handle.command("ping")  # connects, so that the time of connecting does not count
            before = time.time()
            local = handle.command("hello").get("localTime")
            after = time.time()
        finally:
            handle.client.close()
    except Exception:  # noqa: BLE001 - the check of the database reports it
        return
    if isinstance(local, datetime):
        yield "the database", _skew(before, after, local.replace(tzinfo=timezone.utc).timestamp(), 0.001)


def _skew(before: float, after: float, theirs: float, resolution: float) -> float:
    """The least number of seconds by which our clock is ahead (positive) or behind (negative).

    Args:
        before: Our time before the question.
        after: Our time after the answer.
        theirs: The time in the answer.
        resolution: The resolution of their time.
    """
    if before > theirs + resolution:
        return before - theirs - resolution
    return min(0.0, after - theirs)
