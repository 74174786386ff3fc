"""`otel-monitoring export`: rules and dashboards as files for Prometheus, Grafana and Datadog."""

import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import get_args

import click

from otel_monitoring.alerts.manager import AlertManager
from otel_monitoring.alerts.rules.defaults import usual_rules
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.alerts.rules.slo import Slo
from otel_monitoring.cli import exit_codes
from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.export import ExportOptions, render, stale, write
from otel_monitoring.export.files import Target
from otel_monitoring.export.options import Histograms
from otel_monitoring.monitoring.service import MonitoringService
from otel_monitoring.runtime.current_service import get_monitoring, service_of

_EPILOG = """\b
Examples:
  otel-monitoring export prometheus > rules.yaml
  otel-monitoring export all --out collector-config
  otel-monitoring export grafana --out . --app main:monitoring --service orders
  otel-monitoring export all --out collector-config --check

\b
Exit codes:
  0   done; with --check: the files are up to date
  1   with --check: they are not
  64  a setting cannot work, or the extra is missing: pip install 'otel-monitoring[export]'
"""


@click.command(epilog=_EPILOG)
@click.argument("target", type=click.Choice(get_args(Target)))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Write files below this folder.")
@click.option("--service", default="", help="For this service.name alone; otherwise for every service.")
@click.option(
    "--histograms",
    type=click.Choice(get_args(Histograms)),
    default="native",
    show_default=True,
    help="How Prometheus stores them.",
)
@click.option("--app", metavar="MODULE:NAME", help="The MonitoringService whose rules these are; default: ours.")
@click.option(
    "--service-wide",
    is_flag=True,
    help="Without the rules about single instances, which the processes evaluate where Prometheus answers for them.",
)
@click.option("--check", is_flag=True, help="Change nothing: say which files below --out are not up to date.")
def export(
    *,
    target: Target,
    out: Path | None,
    service: str,
    histograms: Histograms,
    app: str | None,
    service_wide: bool,
    check: bool,
) -> int:
    """Print or write the alert rules and dashboards of TARGET, made from the rules of the service.

    Thresholds and windows are those of the environment, as for the service itself.
    """
    if check and out is None:
        raise click.UsageError("--check: say where the files are: --out DIR")
    try:
        files = _render(target, app, service=service, histograms=histograms, service_wide=service_wide)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from None
    if out is None:
        _print(files)
    elif check:
        return _report(stale(files, out), out)
    else:
        for path in write(files, out):
            click.echo(path)
    return exit_codes.OK


def _render(
    target: Target, app: str | None, *, service: str, histograms: Histograms, service_wide: bool
) -> dict[str, str]:
    settings = None
    if app is not None:
        rules, settings = rules_of(app)
    settings = settings or Settings.load()
    if app is None:
        rules = usual_rules(settings)
    if service_wide:
        rules = tuple(rule for rule in rules if rule.scope == "service")
    options = ExportOptions(
        service=service,
        histograms=histograms,
        window=settings.window,
        check_interval=settings.check_interval,
        prefix=settings.prefix,
    )
    return render(target, rules, options, settings.thresholds)


def _print(files: dict[str, str]) -> None:
    for path, text in files.items():
        if len(files) > 1:
            click.echo(f"==> {path} <==")
        click.echo(text, nl=False)


def _report(old: list[str], folder: Path) -> int:
    for path in old:
        click.echo(f"{folder / path}: not up to date", err=True)
    return exit_codes.FAILED if old else exit_codes.OK


def rules_of(name: str) -> tuple[tuple[Rule, ...], Settings | None]:
    """The rules of an application, and the settings of its service.

    Args:
        name: `module:attribute`, imported as by a server. The attribute is a `MonitoringService`, an `AlertManager`,
            one or more rules or objectives, or an application that a `MonitoringService` instruments.

    Returns:
        The rules and the settings; None in place of settings that are not known.

    Raises:
        ConfigurationError: There is no such module or attribute, or it has no rules.
    """
    found = _imported(name)
    if not isinstance(found, (MonitoringService, AlertManager, Rule, Slo, Iterable)):
        found = service_of(found) or get_monitoring() or found
    if isinstance(found, MonitoringService):
        return found.alert_manager.rules, found.settings
    if isinstance(found, AlertManager):
        return found.rules, None
    given = tuple(found) if isinstance(found, Iterable) else (found,)
    rules = tuple(rule for one in given for rule in (one.rules() if isinstance(one, Slo) else (one,)))
    if not rules or not all(isinstance(rule, Rule) for rule in rules):
        raise ConfigurationError(f"{name}: is no MonitoringService, AlertManager or rules, and nothing monitors it")
    return rules, None


def _imported(name: str) -> object:
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ConfigurationError(f"{name}: write module:attribute, e.g. main:monitoring")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: object = import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"{name}: there is no module {error.name}") from None
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ConfigurationError(f"{name}: {module} has no {attribute}")
        found = getattr(found, part)
    return found
