"""The group of commands. Each command is imported when it is called, so that `check` starts quickly."""

import io
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from otel_monitoring.cli import exit_codes

COMMANDS = {
    "ack": "otel_monitoring.cli.alert_actions:ack",
    "check": "otel_monitoring.cli.check:check",
    "completion": "otel_monitoring.cli.completion:completion",
    "doctor": "otel_monitoring.cli.doctor.command:doctor",
    "export": "otel_monitoring.cli.export:export",
    "maintenance": "otel_monitoring.cli.alert_actions:maintenance",
    "mute": "otel_monitoring.cli.alert_actions:mute",
    "replay": "otel_monitoring.cli.replay:replay_command",
    "run": "otel_monitoring.cli.run:run",
    "watch": "otel_monitoring.cli.watch.command:watch",
}
"""Module and name of each `click.Command`, by the command's name."""

EPILOG = """\b
Examples:
  otel-monitoring run uvicorn app:app
  otel-monitoring check http://localhost:8000
  otel-monitoring watch http://localhost:8000
  otel-monitoring doctor
  otel-monitoring export all --out collector-config
  otel-monitoring replay --since 7d

\b
Exit codes:
  0    healthy, or degraded without --strict; everything in order
  1    unhealthy; something is out of order
  2    no answer from the service
  3    the admin token is missing or wrong
  64   the command was called wrongly
  126  run: the command cannot be executed
  127  run: there is no such command
  130  ended by Ctrl-C
"""


class LazyCommands(click.Group):
    """Finds commands in `COMMANDS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of this name, None where there is none."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command


@click.group(cls=LazyCommands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="otel-monitoring", prog_name="otel-monitoring")
def otel_monitoring() -> None:
    """Start, probe, watch and examine services with otel_monitoring."""


def run_command_line(arguments: Sequence[str]) -> int:
    """Run the command that `arguments` name; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # the encoding may lack bars and arrows
    try:
        code = otel_monitoring.main(list(arguments), prog_name="otel-monitoring", standalone_mode=False)
    except click.UsageError as error:
        error.show()
        return exit_codes.USAGE
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return exit_codes.INTERRUPTED
    except BrokenPipeError:  # e.g. `| head`
        return exit_codes.OK
    return code if isinstance(code, int) else exit_codes.OK
