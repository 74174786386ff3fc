"""`otel-monitoring completion`: the script that makes a shell complete commands and options."""

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from otel_monitoring.cli import exit_codes

_SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "fish": FishComplete, "zsh": ZshComplete}

_EPILOG = """\b
Examples:
  otel-monitoring completion bash >> ~/.bashrc
  otel-monitoring completion zsh >> ~/.zshrc
  otel-monitoring completion fish > ~/.config/fish/completions/otel-monitoring.fish
"""


@click.command(epilog=_EPILOG)
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> int:
    """Print the completion script for SHELL."""
    program = context.find_root().command
    click.echo(_SHELLS[shell](program, {}, "otel-monitoring", "_OTEL_MONITORING_COMPLETE").source())
    return exit_codes.OK
