"""Check: the Prometheus that answers for the service."""

import asyncio
import time
from collections.abc import Iterator

from otel_monitoring.cli.doctor.findings import Examination, Finding, Level
from otel_monitoring.telemetry.export_state import without_credentials

_NAME = "Prometheus"
_CLOCK_SECONDS = 30.0


def prometheus(examination: Examination) -> Iterator[Finding]:
    """Whether it answers, and has what the answers need: metrics, values of the exported rules, an Alertmanager."""
    settings = examination.settings
    if settings is None:
        yield Finding(_NAME, Level.SKIPPED, "the settings are not valid")
        return
    if settings.prometheus_url is None:
        yield Finding(_NAME, Level.SKIPPED, "OTEL_MONITORING_PROMETHEUS_URL is not set: the service answers for itself")
        return
    from otel_monitoring.prometheus.probe import probe  # with its HTTP client

    found = asyncio.run(probe(settings, time.time()))
    where = without_credentials(settings.prometheus_url.get_secret_value())
    if found.failure is not None:
        yield Finding(_NAME, Level.FAILED, f"{where}: {found.failure}", _advice(found.failure))
        return
    clock = f", its clock is {found.clock:+.0f} s off" if abs(found.clock) > _CLOCK_SECONDS else ""
    form = {None: "no histograms of requests yet", True: "native histograms", False: "classic histograms"}[found.native]
    yield Finding(_NAME, Level.OK, f"{where}: answers, {found.processes} processes, {form}{clock}")
    if not settings.exports("metrics"):
        advice = "set OTEL_EXPORTER_OTLP_ENDPOINT: what is not exported is in no answer"
        yield Finding(_NAME, Level.WARNING, "this service exports no metrics", advice)
    if not found.rules:
        advice = "otel-monitoring export prometheus --service-wide > rules.yaml, and name it in rule_files"
        yield Finding(f"{_NAME} rules", Level.WARNING, "no values of the exported rules", advice)
    else:
        yield Finding(f"{_NAME} rules", Level.OK, f"{found.rules} values of exported rules")
    if not found.alertmanagers and not settings.alertmanager_url:
        advice = "name one in its alerting section, and in ALERTMANAGER_URL where it does not tell"
        yield Finding(
            "Alertmanager", Level.WARNING, "nobody is notified of what fires, and mutes are no silences", advice
        )
    else:
        number = found.alertmanagers if found.alertmanagers is not None else "an unknown number"
        yield Finding("Alertmanager", Level.OK, f"Prometheus notifies {number}")


def _advice(failure: str) -> str:
    if "401" in failure or "403" in failure:
        return "set OTEL_MONITORING_PROMETHEUS_HEADERS to what it asks for"
    if "certificate" in failure.lower():
        return "set OTEL_MONITORING_PROMETHEUS_CERTIFICATE to its authority"
    if "404" in failure or "API" in failure:
        return "the URL is that before /api/v1; for Mimir it ends with /prometheus"
    return "is it running and reachable from here?"
