"""Checks: the OTLP endpoint accepts each signal, and spans are recorded for trace context in documents."""

import re
from collections.abc import Iterator, Mapping

from otel_monitoring.cli.doctor.findings import Examination, Finding, Level
from otel_monitoring.config.otlp import SIGNALS, Signal
from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.telemetry.export_state import without_credentials
from otel_monitoring.telemetry.trial_exports import try_exports

_TRACE_CONTEXT = "trace context"
_ADVICE = (
    ("404", "the endpoint does not take this signal: a Collector's pipeline for it is missing, or the path is wrong"),
    ("UNIMPLEMENTED", "the endpoint does not take this signal: a Collector's pipeline for it is missing"),
    ("401", "set OTEL_EXPORTER_OTLP_HEADERS to what the endpoint asks for"),
    ("403", "set OTEL_EXPORTER_OTLP_HEADERS to what the endpoint asks for"),
    ("UNAUTHENTICATED", "set OTEL_EXPORTER_OTLP_HEADERS to what the endpoint asks for"),
    ("certificate", "set OTEL_EXPORTER_OTLP_CERTIFICATE to the CA of the endpoint"),
    ("SSL", "is it http:// or https://?"),
)


def otlp(examination: Examination) -> Iterator[Finding]:
    """Send an empty export to each signal's endpoint, with the exporter of the service."""
    settings = examination.settings
    if settings is None:
        yield Finding("OTLP", Level.SKIPPED, "the settings are not valid")
        return
    if settings.file is not None:
        described = "OTEL_CONFIG_FILE says what is exported"
        advice = "`telemetry` in /health/diagnostics of a running service says what became of it"
        yield Finding("OTLP", Level.SKIPPED, described, advice)
        return
    sent = [signal for signal in SIGNALS if settings.exports(signal)]
    if not sent:
        advice = "set OTEL_EXPORTER_OTLP_ENDPOINT to send telemetry to a Collector"
        yield Finding("OTLP", Level.SKIPPED, "no endpoint: nothing is exported", advice)
        return
    try:
        results = try_exports(sent, settings, timeout=examination.timeout)
    except ConfigurationError as error:
        yield Finding("OTLP", Level.FAILED, str(error), "correct it: the service does not start with this")
        return
    for signal in SIGNALS:
        yield _finding(settings, signal, results)


def trace_context(examination: Examination) -> Iterator[Finding]:
    """Whether `carry` and `continued` have recorded spans to work with."""
    settings = examination.settings
    if settings is None:
        yield Finding(_TRACE_CONTEXT, Level.SKIPPED, "the settings are not valid")
    elif settings.exports("traces") or (settings.file is not None and settings.file.records_spans):
        yield Finding(_TRACE_CONTEXT, Level.OK, "spans are recorded: carry() writes the current one into documents")
    else:
        yield Finding(
            _TRACE_CONTEXT,
            Level.SKIPPED,
            "no traces are exported, so no spans are recorded: carry() writes nothing, continued() links nothing",
            "set OTEL_EXPORTER_OTLP_ENDPOINT, unless the application brings a tracer provider of its own",
        )


def _finding(settings: Settings, signal: Signal, results: Mapping[Signal, str | None]) -> Finding:
    name = f"OTLP {signal}"
    if signal not in results:
        return Finding(name, Level.SKIPPED, "switched off, or no endpoint for it")
    where = f"{without_credentials(settings.endpoint(signal) or '')} ({settings.protocol(signal)})"
    reason = results[signal]
    if reason is None:
        return Finding(name, Level.OK, f"accepted by {where}")
    # The library requests wraps the reason in several others.
    reason = reason.rpartition("Failed to establish a new connection: ")[2].rstrip("\"')")
    return Finding(name, Level.FAILED, f"{where}: {reason}", advice_for(reason))


def advice_for(reason: str) -> str:
    """What to do about an export that failed for `reason`."""
    for mark, text in _ADVICE:
        if re.search(rf"\b{mark}\b", reason):  # a whole word: the port 40121 is no status 401
            return text
    return "is the Collector running and reachable from here?"
