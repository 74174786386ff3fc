"""The command: runs the checks in order and prints their findings."""

import json
import logging
import textwrap
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import click

from otel_monitoring.cli import exit_codes, options
from otel_monitoring.cli.client import ServiceClient
from otel_monitoring.cli.doctor.channels import channels
from otel_monitoring.cli.doctor.clock import clock
from otel_monitoring.cli.doctor.database import database
from otel_monitoring.cli.doctor.findings import DoctorCheck, Examination, Finding, Level, findings_of
from otel_monitoring.cli.doctor.otlp import otlp, trace_context
from otel_monitoring.cli.doctor.prometheus import prometheus
from otel_monitoring.cli.doctor.running_service import running_service
from otel_monitoring.cli.doctor.semconv import semantic_conventions
from otel_monitoring.cli.doctor.settings import settings_valid
from otel_monitoring.cli.doctor.state_dir import state_directory
from otel_monitoring.cli.doctor.store import store
from otel_monitoring.cli.doctor.versions import versions
from otel_monitoring.cli.terminal import console, safe_text, style_of

CHECKS: Final = (
    DoctorCheck(
        settings_valid,
        "Settings are environment variables, or lines of .env where the service is started. A wrong value keeps the "
        "service from starting; a misspelt name does nothing.",
    ),
    DoctorCheck(versions, "Some versions of the libraries that are measured have known problems."),
    DoctorCheck(
        semantic_conventions,
        "OpenTelemetry's semantic conventions say how measurements are named. There are old and stable names; the "
        "dashboards and rules look for the stable ones.",
    ),
    DoctorCheck(
        database,
        "The service pings its MongoDB and reads how many documents its collections have. What works from here works "
        "for a service that is started here.",
    ),
    DoctorCheck(
        otlp,
        "Traces, metrics and logs leave the service by OTLP, mostly for an OpenTelemetry Collector, which hands them "
        "to a backend. Health, alerts and /api/health/metrics need none of that.",
    ),
    DoctorCheck(
        trace_context,
        "carry() writes the current span's context into a document, and continued() goes on from it: so one order is "
        "followed through several processes.",
    ),
    DoctorCheck(
        prometheus,
        "A service of many hosts is answered for by Prometheus, which has the exports of all; its rules fire there.",
    ),
    DoctorCheck(clock, "Telemetry is ordered by time, so the clocks of the machines must agree."),
    DoctorCheck(
        store,
        "The hosts of a service agree about alerts, mutes and totals where they are kept in its MongoDB database.",
    ),
    DoctorCheck(
        state_directory,
        "Otherwise, and while that database is away, they are kept in a file, so that a restart forgets nothing and "
        "all workers of the host agree.",
    ),
    DoctorCheck(channels, "When a rule fires, the alert is logged, and sent to each channel that is configured."),
    DoctorCheck(
        running_service, "A running service tells its health with the reasons, and failures of its monitoring."
    ),
)
"""The checks in the order in which they run. No check depends on another."""

_MARKS: Final = {Level.OK: "✓", Level.WARNING: "!", Level.FAILED: "✗", Level.SKIPPED: "-"}

_EPILOG = """\b
✓ in order   ! works, with a drawback   ✗ out of order   - not in use, or not examined

\b
Examples:
  otel-monitoring doctor
  otel-monitoring doctor --send-test
  otel-monitoring doctor --database mongodb://localhost:27017/shop --url http://localhost:8000
  otel-monitoring doctor --strict --json

\b
Exit codes:
  0  everything in order, warnings aside
  1  something is out of order, or worth a warning with --strict
"""


@click.command(epilog=_EPILOG)
@click.option("--database", "database_uri", metavar="URI", envvar="MONGODB_URI", help="The database to examine.")
@click.option("--url", metavar="URL", help="A running service to examine as well.")
@click.option(
    "--token", envvar="OTEL_MONITORING_ADMIN_TOKEN", help="Its admin token; better set OTEL_MONITORING_ADMIN_TOKEN."
)
@click.option("--prefix", envvar="OTEL_MONITORING_PREFIX", help="The prefix of its endpoints, if that is not /api.")
@click.option("--send-test", is_flag=True, help="Send a test alert through every channel that is configured.")
@click.option("--strict", is_flag=True, help="Warnings are failures too.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long each question may take.",
)
@options.as_json
def doctor(
    database_uri: str | None,
    url: str | None,
    token: str | None,
    prefix: str | None,
    send_test: bool,
    strict: bool,
    timeout: float,
    as_json: bool,
) -> int:
    """Examine this environment: what a service started here would find, what that means, and what to do.

    Run it where the service runs, with its environment variables and its .env: settings, versions, database, OTLP
    endpoint, clocks, store, state directory, alert channels. Nothing is changed, and nothing sent but empty exports,
    unless --send-test is given. With --url and an admin token it says why a running service is not healthy.
    """
    # Findings contain the failures that libraries log.
    logging.getLogger().addHandler(logging.NullHandler())
    examination = Examination.of_this_environment(database_uri=database_uri, send_test=send_test, timeout=timeout)
    if url:
        if prefix is None and examination.settings is not None:
            prefix = examination.settings.prefix  # it may come from .env
        try:
            service = ServiceClient(url, token=token, prefix=prefix, timeout=timeout)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--url") from None
        examination = replace(examination, service=service)
    findings: list[tuple[DoctorCheck, Finding]] = []
    for check in CHECKS:
        found = list(findings_of(check.examine, examination))
        findings += ((check, finding) for finding in found)
        if not as_json:
            _print(check, found)
    bad = {Level.FAILED, Level.WARNING} if strict else {Level.FAILED}
    code = exit_codes.FAILED if any(finding.level in bad for _, finding in findings) else exit_codes.OK
    if as_json:
        found_by = [{**finding.as_json(), "about": check.about} for check, finding in findings]
        click.echo(json.dumps({"exit_code": code, "findings": found_by}))
    else:
        _print_summary([finding for _, finding in findings])
    return code


def _print(check: DoctorCheck, findings: Iterable[Finding]) -> None:
    out = console()
    for line in textwrap.wrap(check.about, min(out.width, 110)):
        out.print(safe_text(line, "dim"))
    for finding in findings:
        style = style_of(finding.level.value)
        result = safe_text(f"{_MARKS[finding.level]} ", style).append(f"{finding.check:22s}", "bold")
        out.print(result.append_text(safe_text(finding.message)))
        if finding.advice:
            out.print(safe_text(f"{'':24s}→ {finding.advice}", style))
    out.print()


def _print_summary(findings: Iterable[Finding]) -> None:
    levels = [finding.level for finding in findings]
    counts = ", ".join(f"{levels.count(level)} {level.value}" for level in Level if level in levels)
    worst = Level.FAILED if Level.FAILED in levels else Level.WARNING if Level.WARNING in levels else Level.OK
    console().print(safe_text(counts, style_of(worst.value)))
