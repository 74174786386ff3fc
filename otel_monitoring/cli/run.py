"""`otel-monitoring run`: start a command with zero-code instrumentation."""

import shutil
import sys
from pathlib import Path

import click

from otel_monitoring.cli import exit_codes

_EPILOG = """\b
Examples:
  otel-monitoring run uvicorn app:app --workers 2
  otel-monitoring run gunicorn -k uvicorn.workers.UvicornWorker app:app
  otel-monitoring run fastapi run app.py
  OTEL_MONITORING_ADMIN_TOKEN=... otel-monitoring run python -m uvicorn app:app

\b
Exit codes: those of COMMAND, and
  64   a setting cannot work
  126  COMMAND cannot be executed
  127  there is no COMMAND
"""


@click.command(epilog=_EPILOG, context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND [ARGUMENT]...")
def run(command: tuple[str, ...]) -> int:
    """Run COMMAND and monitor the FastAPI application that it serves.

    The same as `opentelemetry-instrument COMMAND`, with the settings checked before. The endpoints are mounted, and the
    database is that of OTEL_MONITORING_DATABASE_URI or of the first MongoDB client the application builds. An
    application that calls MonitoringService(...).instrument(app) keeps what it does.
    """
    from otel_monitoring.environment import disable_instrumentations
    from otel_monitoring.errors import ConfigurationError

    program = command[0]
    if shutil.which(program) is None:
        exists = Path(program).exists()
        click.echo(f"{program}: {'it cannot be executed' if exists else 'command not found'}", err=True)
        return exit_codes.NOT_EXECUTABLE if exists else exit_codes.NOT_FOUND
    try:
        _check_settings()
    except ConfigurationError as error:
        click.echo(f"otel-monitoring: {error}", err=True)
        return exit_codes.USAGE
    from opentelemetry.instrumentation.auto_instrumentation import run as replace_process

    # Zero-code start of this package replaces both; without them no process imports a library that it does not use.
    disable_instrumentations("fastapi", "pymongo")
    sys.argv = ["opentelemetry-instrument", *command]
    replace_process()
    raise AssertionError("unreachable: the process is COMMAND now")


def _check_settings() -> None:
    """Check the settings as the service will at its start.

    Raises:
        ConfigurationError: The service would not start.
    """
    from otel_monitoring.alerts.notify.channels.from_settings import channels_from
    from otel_monitoring.config.settings import Settings
    from otel_monitoring.monitoring.monitored_database import check_database_setting

    settings = Settings.load()
    channels_from(settings)
    check_database_setting(settings)
