"""`otel-monitoring`: the commands for people who run services; each is a module of its own, see `commands.COMMANDS`."""

import sys

from otel_monitoring.cli import codes

_NEEDS = "otel-monitoring: the commands need click and rich: pip install 'otel-monitoring[cli]'\n"


def main() -> None:
    """The console script."""
    try:
        from otel_monitoring.cli.commands import run_command_line
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        sys.stderr.write(_NEEDS)
        sys.exit(codes.USAGE)
    sys.exit(run_command_line(sys.argv[1:]))
