"""`otel-monitoring replay`: what rules would have done over the past that the service keeps."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from otel_monitoring.alerts.model import AlertEvent, Outcome, Status, duration
from otel_monitoring.alerts.replay import ReplayOptions, replay, why_not
from otel_monitoring.alerts.rules.defaults import usual_rules
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.alerts.store import open_store
from otel_monitoring.alerts.store.sqlite import SqliteStore
from otel_monitoring.alerts.store.sqlite.state_file import state_path
from otel_monitoring.cli import exit_codes
from otel_monitoring.cli.application_rules import rules_in, rules_of
from otel_monitoring.cli.options import as_json
from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import ConfigurationError, StoreError
from otel_monitoring.metrics.slices.model import TIERS
from otel_monitoring.metrics.slices.table import SliceTable
from otel_monitoring.timestamps import rfc3339, seconds_of

_INCIDENTS_SHOWN = 20
_EPILOG = """\b
Examples:
  otel-monitoring replay --since 7d
  otel-monitoring replay --since 30d --rule new_rules.py
  otel-monitoring replay --since 1d --app main:monitoring --json

\b
Exit codes:
  0   done
  2   the past cannot be read
  64  a rule cannot be replayed, or the command was called wrongly
"""


@dataclass(slots=True)
class PastIncident:
    """An alert from its start to its end, as it would have been.

    Attributes:
        labels: Its labels.
        start: When it began to fire, in Unix seconds.
        end: When it resolved; None: it still fires.
        message: One line for people.
        outcome: Whether it would have been sent, or why not.
    """

    labels: Mapping[str, str]
    start: float
    end: float | None
    message: str
    outcome: Outcome


@dataclass(slots=True)
class Replayed:
    """What one rule would have done."""

    rule: Rule
    incidents: list[PastIncident] = field(default_factory=list)

    def seconds(self, now: float) -> float:
        """How long it fired."""
        return sum((one.end if one.end is not None else now) - one.start for one in self.incidents)


@click.command("replay", epilog=_EPILOG)
@click.option("--since", default="7d", show_default=True, metavar="SPAN", help="How far back: 12h, 7d, at most 30d.")
@click.option(
    "--rule",
    "sources",
    multiple=True,
    metavar="FILE[:NAME]|MODULE[:NAME]",
    help="Rules and objectives of a file or module, in place of the service's; may be repeated.",
)
@click.option("--app", metavar="MODULE:NAME", help="The MonitoringService whose rules these are; default: ours.")
@click.option("--service", default="", help="The service.name; default: OTEL_SERVICE_NAME, or the only one here.")
@as_json
def replay_command(*, since: str, sources: tuple[str, ...], app: str | None, service: str, as_json: bool) -> int:
    """Say what rules would have done, from the past that the service keeps in its store.

    The store is that of this host, or the database of OTEL_MONITORING_STORE=mongodb. The service may run meanwhile.
    """
    seconds = _seconds(since)
    try:
        rules, settings = rules_of(app) if app is not None else ((), None)
        settings = settings or Settings.load()
        rules = rules or usual_rules(settings)
        chosen = tuple({rule.name: rule for source in sources for rule in rules_in(source)}.values())
        possible, lacking = _replayable(chosen or rules, settings)
        if chosen:
            _refuse(lacking)
        table = _table(settings, service or settings.service_name or "")
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from None
    now = time.time()
    try:
        found = _replayed(table, possible, now - seconds, now, settings)
    except StoreError as error:
        click.echo(f"the past cannot be read: {error}", err=True)
        return exit_codes.UNREACHABLE
    if as_json:
        click.echo(json.dumps(_json(found, lacking, now - seconds, now), indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(_lines(found, lacking, now - seconds, now)))
    return exit_codes.OK


def _seconds(span: str) -> float:
    seconds = seconds_of(span) or 0.0
    if not 60 <= seconds <= TIERS[-1].kept:
        raise click.BadParameter("write a time from 1m to 30d, like 12h or 7d", param_hint="--since")
    return seconds


def _replayable(rules: Sequence[Rule], settings: Settings) -> tuple[list[Rule], dict[str, str]]:
    """The rules that can be replayed, and why the others cannot."""
    why = {rule.name: why_not(rule, settings.error_statuses) for rule in rules}
    lacking = {name: reason for name, reason in why.items() if reason is not None}
    return [rule for rule in rules if rule.name not in lacking], lacking


def _refuse(lacking: Mapping[str, str]) -> None:
    if lacking:
        raise ConfigurationError("; ".join(f"{name} cannot be replayed: {why}" for name, why in lacking.items()))


def _table(settings: Settings, service: str) -> SliceTable:
    """The past of the service.

    Raises:
        ConfigurationError: It is not known where that is.
    """
    if settings.store == "memory":
        raise ConfigurationError("OTEL_MONITORING_STORE=memory: the past is in the memory of the service alone")
    if settings.store == "mongodb":
        if not service:
            raise ConfigurationError("--service: say which one, or set OTEL_SERVICE_NAME")
        return open_store(settings, service_name=service, environment=settings.environment).slices
    try:
        path = state_path(settings.state_dir, service_name=service, environment=settings.environment)
    except StoreError as error:
        raise ConfigurationError(f"OTEL_MONITORING_STATE_DIR: {error}") from None
    if not path.exists():
        known = sorted(path.parent.glob(f"{service}*.db"))
        if len(known) != 1:
            names = ", ".join(one.stem.rpartition("-")[0] for one in sorted(path.parent.glob("*.db"))[:20])
            there = f"the past of: {names}" if names else "no past of a service"
            raise ConfigurationError(f"--service: in {path.parent} there is {there}")
        path = known[0]
    return SqliteStore(path).slices


def _replayed(table: SliceTable, rules: Sequence[Rule], since: float, now: float, settings: Settings) -> list[Replayed]:
    options = ReplayOptions(
        settings.window, settings.sample_interval, settings.repeat_interval, settings.error_statuses
    )
    found = {rule.name: Replayed(rule) for rule in rules}
    going: dict[str, PastIncident] = {}
    for event in replay(table, rules, since, now, options):
        _note(event, found[event.rule], going)
    return list(found.values())


def _note(event: AlertEvent, of: Replayed, going: dict[str, PastIncident]) -> None:
    if event.status is Status.RESOLVED:
        incident = going.pop(event.incident, None)
        if incident is not None:
            incident.end, incident.message = event.time, event.message
    elif event.incident not in going:
        going[event.incident] = incident = PastIncident(event.labels, event.time, None, event.message, event.outcome)
        of.incidents.append(incident)
    elif event.outcome is Outcome.NOTIFIED:
        going[event.incident].outcome = event.outcome


def _lines(found: Sequence[Replayed], lacking: Mapping[str, str], since: float, now: float) -> Iterator[str]:
    yield f"{rfc3339(since)} to {rfc3339(now)}, {len(found)} rules"
    for one in sorted(found, key=lambda each: -len(each.incidents)):
        if not one.incidents:
            yield f"{one.rule.name}: never"
            continue
        times = f"{len(one.incidents)} times" if len(one.incidents) > 1 else "once"
        yield f"{one.rule.name}: {times}, {duration(one.seconds(now))} in all"
        for incident in one.incidents[:_INCIDENTS_SHOWN]:
            lasted = duration(incident.end - incident.start) if incident.end is not None else "still"
            where = "".join(f" {key}={value}" for key, value in incident.labels.items() if key not in one.rule.labels)
            kept = "" if incident.outcome is Outcome.NOTIFIED else f" ({incident.outcome.value}: not sent)"
            yield f"  {rfc3339(incident.start)}  {lasted:>12}{where}  {incident.message}{kept}"
        if len(one.incidents) > _INCIDENTS_SHOWN:
            yield f"  … and {len(one.incidents) - _INCIDENTS_SHOWN} more"
    if lacking:
        yield "Not replayed:"
        yield from (f"  {name}: {why}" for name, why in lacking.items())
    yield "Slices are 10 s long for the last hour, then a minute, after a day 5 minutes, after three days an hour:"
    yield "what was shorter, or over sooner, is not seen there as it was live."


def _json(found: Sequence[Replayed], lacking: Mapping[str, str], since: float, now: float) -> dict[str, Any]:
    return {
        "since": rfc3339(since),
        "until": rfc3339(now),
        "rules": [
            {
                "rule": one.rule.name,
                "times": len(one.incidents),
                "seconds": round(one.seconds(now), 1),
                "incidents": [
                    {
                        "start": rfc3339(incident.start),
                        "end": rfc3339(incident.end) if incident.end is not None else None,
                        "labels": dict(incident.labels),
                        "message": incident.message,
                        "outcome": incident.outcome.value,
                    }
                    for incident in one.incidents
                ],
            }
            for one in found
        ],
        "not_replayed": dict(lacking),
    }
