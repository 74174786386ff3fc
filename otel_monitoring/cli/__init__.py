"""The command line `otel-monitoring`. Each command is a module or folder; `commands.COMMANDS` lists them."""

import sys
from importlib.util import find_spec

from otel_monitoring.cli import exit_codes

_NEEDS = "otel-monitoring: the commands need click and rich: pip install 'otel-monitoring[cli]'\n"


def main() -> None:
    """The console script `otel-monitoring`."""
    if not all(map(find_spec, ("click", "rich"))):
        sys.stderr.write(_NEEDS)
        sys.exit(exit_codes.USAGE)
    from otel_monitoring.cli.commands import run_command_line

    sys.exit(run_command_line(sys.argv[1:]))
