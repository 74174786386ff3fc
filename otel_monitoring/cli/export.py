"""`otel-monitoring export`: rules and dashboards as files for Prometheus, Grafana, Datadog and Kubernetes."""

from pathlib import Path
from typing import get_args

import click

from otel_monitoring.alerts.rules.defaults import usual_rules
from otel_monitoring.cli import exit_codes
from otel_monitoring.cli.application_rules import rules_of
from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.export import ExportOptions, render, stale, write
from otel_monitoring.export.files import Target
from otel_monitoring.export.options import Histograms

_EPILOG = """\b
Examples:
  otel-monitoring export prometheus > rules.yaml
  otel-monitoring export kubernetes | kubectl apply -f -
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
