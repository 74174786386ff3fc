"""The command line itself: help, wrong calls, what is not installed, completion."""

import os
import shutil
import subprocess
import sys

import pytest

from otel_monitoring.cli import exit_codes
from otel_monitoring.cli.commands import COMMANDS, run_command_line
from tests.conftest import unavailable


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line([command, "--help"]) == exit_codes.OK
    text = capsys.readouterr().out
    assert f"  otel-monitoring {command}" in text, "an example"
    assert command == "completion" or "Exit codes" in text


def test_the_group_lists_commands_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["--help"]) == exit_codes.OK
    text = capsys.readouterr().out
    first_words = [line.split()[0] for line in text.splitlines() if line.strip()]
    assert {*COMMANDS, *map(str, (0, 1, 2, 3, 64, 126, 127, 130))} <= set(first_words)


@pytest.mark.parametrize("arguments", [["nonsense"], ["check"], ["check", "ftp://x"], ["run"], ["run", "--fast", "x"]])
def test_a_wrong_call_is_told_from_an_unhealthy_service(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line(arguments) == exit_codes.USAGE
    assert "Error: " in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_its_extra_it_says_what_to_install(missing: str) -> None:
    source = f"import sys; sys.modules[{missing!r}] = None; from otel_monitoring.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", source, "check"], capture_output=True, text=True, check=False)
    assert done.returncode == exit_codes.USAGE
    assert done.stderr == "otel-monitoring: the commands need click and rich: pip install 'otel-monitoring[cli]'\n"


@pytest.mark.slow
@pytest.mark.parametrize(("command", "spared"), [("check", "rich httpx importlib.metadata"), ("watch", "httpx")])
def test_a_command_that_asks_a_service_starts_quickly(command: str, spared: str) -> None:
    """It imports neither the web framework nor the SDK nor the validation library: together they take half a second."""
    source = f"""
import sys
from otel_monitoring.cli.commands import otel_monitoring
otel_monitoring.get_command(None, {command!r})
heavy = {{"fastapi", "opentelemetry", "pydantic", "pymongo", "asyncio", *{spared!r}.split()}} & sys.modules.keys()
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-W", "error", "-c", source], check=True)


@pytest.mark.slow
def test_bash_completes_commands_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    bash = shutil.which("bash")
    if bash is None:
        unavailable("bash is missing")
    assert run_command_line(["completion", "bash"]) == exit_codes.OK
    script = capsys.readouterr().out
    ask = "COMP_WORDS=(otel-monitoring {0}); COMP_CWORD={1}; _otel_monitoring_completion otel-monitoring"
    path = os.pathsep.join((os.path.dirname(sys.executable), os.environ["PATH"]))  # noqa: PTH120 - as the shell has it
    for words, position, expected in (("wa", 1, "watch"), ("check --str", 2, "--strict")):
        source = f'{script}\n{ask.format(words, position)}; echo "${{COMPREPLY[@]}}"'
        done = subprocess.run([bash, "-c", source], capture_output=True, text=True, check=True, env={"PATH": path})
        assert done.stdout.split() == [expected]
