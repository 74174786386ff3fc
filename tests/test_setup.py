"""A fresh machine: somebody installs whatever tests, examples and the Makefile look up or start."""

import ast
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.integration.builds import PROGRAMS, ROOT

REQUIRED = {"python3", "make", "git", "go"}
"""What the README asks for; Go for what is built."""
SYSTEM = {"bash", "dirname", "echo", "expand", "grep", "rm", "sed", "touch"}
"""What comes with every system that has a make."""
SAME = {"alertmanager": "prometheus-alertmanager"}
"""Other names of a program, elsewhere than on Debian."""
STARTERS = {
    "subprocess": {"run", "Popen", "call", "check_call", "check_output", "getoutput", "getstatusoutput"},
    "asyncio": {"create_subprocess_exec", "create_subprocess_shell"},
    "os": {"system", "popen", "execv", "execve", "execvp", "execvpe", "posix_spawn", "posix_spawnp", "spawnvp"},
    "pty": {"spawn"},
}
LOOKS = re.compile(
    r"\b(which|find_spec|importorskip|ImportError|ModuleNotFoundError|BuildError|exists|is_file|access)\b"
)
"""How a test finds out that a part is missing."""
VERSIONS = re.compile(r"(find_spec|importorskip)\('(fastapi\.telemetry|resource)'")
"""What tells the version of FastAPI, or the platform."""


def sources() -> Iterator[tuple[str, ast.Module]]:
    for folder in ("tests", "examples"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def programs(tree: ast.Module) -> Iterator[str]:
    """What a module looks up on the PATH, or starts by bare name; a look-up of what nobody can read is `?`."""
    lists: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                lists.setdefault(ast.unparse(target), []).append(node.value)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        module, _, name = ast.unparse(node.func).rpartition(".")
        if name == "which" and module in {"", "shutil"}:
            yield from _texts(node.args[0]) or ["?"]
        elif name in STARTERS.get(module, ()) or (not module and name in STARTERS["subprocess"] - {"run", "call"}):
            yield from _first(node.args[0], lists)


def _first(node: ast.expr, lists: dict[str, list[ast.expr]], depth: int = 5) -> Iterator[str]:
    """The program of a command, where it is a text; what is computed is the path of something built or installed."""
    if depth == 0:
        return
    if isinstance(node, ast.List | ast.Tuple) and node.elts:
        node = node.elts[0]
    if isinstance(node, ast.Starred):
        node = node.value
    if isinstance(node, ast.BinOp):
        node = node.left
    if texts := _texts(node):
        yield from (word for word in texts[0].split()[:1] if "/" not in word and "{" not in word and word[0] != "-")
    elif isinstance(node, ast.List | ast.Tuple):
        yield from _first(node, lists, depth - 1)
    else:
        for value in lists.get(ast.unparse(node), ()):
            yield from _first(value, lists, depth - 1)


def _texts(node: ast.expr) -> list[str]:
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value else []


def commands(makefile: str) -> Iterator[str]:
    """The programs in the recipes of a Makefile."""
    yield from re.findall(r"^PYTHON \?= (\S+)", makefile, re.MULTILINE)
    for line in re.findall(r"^\t@?(.*)", makefile.replace("\\\n", ""), re.MULTILINE):
        for part in re.split(r"\|\|?|&&|;", re.sub(r"""'[^']*'|"[^"]*\"""", "''", line)):
            words = [word for word in part.split() if not re.match(r"\w+=", word)]
            if words and not words[0].startswith("$"):
                yield words[0]


def installed_by_ci() -> dict[str, str]:
    """The programs that `.ci/run` installs, with their packages."""
    return dict(re.findall(r"^  ([\w-]+):([\w-]+)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE))


def brought() -> set[str]:
    """Whatever is there where the environment, the builds and `.ci/run` have been."""
    built = {executable for program in PROGRAMS.values() for executable in program.executables}
    scripts = {entry.name for entry in entry_points(group="console_scripts")}
    return REQUIRED | SYSTEM | built | scripts | installed_by_ci().keys()


@pytest.mark.slow
def test_whatever_is_looked_up_or_started_is_brought_by_somebody() -> None:
    wanted = {program: path for path, tree in sources() for program in programs(tree)}
    wanted |= dict.fromkeys(commands((ROOT / "Makefile").read_text()), "Makefile")
    nobodys = {program: path for program, path in wanted.items() if SAME.get(program, program) not in brought()}
    assert nobodys == {}
    assert {"go", "git", "openssl", "mount", "prometheus-alertmanager", "grep", "python3"} <= wanted.keys()
    assert installed_by_ci().keys() <= wanted.keys(), "nothing is installed for nobody"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("shutil.which('promtool')", ["promtool"]),
        ("which(name)", ["?"]),
        ("subprocess.run(['docker', 'ps'])", ["docker"]),
        ("Popen(('docker', 'ps'))", ["docker"]),
        ("subprocess.run([sys.executable, '-m', 'x'])", []),
        ("command = ['chromium', page]\nsubprocess.run([*command, '--x'])", ["chromium"]),
        ("command = ['chromium'] + pages\nsubprocess.run(command)", ["chromium"]),
        ("os.system('docker ps')", ["docker"]),
        ("subprocess.run(['/bin/docker'])", []),
        ("asyncio.create_subprocess_exec('docker')", ["docker"]),
    ],
)
def test_programs_are_found(source: str, found: list[str]) -> None:
    assert list(programs(ast.parse(source))) == found


def test_commands_of_a_makefile_are_found() -> None:
    recipe = "a: b\n\t@X=1 docker ps | jq -r '.a;b' && $(BIN)/python x\n\ttrue; false\n"
    assert list(commands(recipe)) == ["docker", "jq", "true", "false"]


@pytest.mark.slow
def test_a_skip_for_want_of_a_part_is_a_failure_in_ci() -> None:
    """Platforms and versions skip a test by themselves; `unavailable` skips for what is missing, and fails in CI."""
    assert [(path, why) for path, tree in sources() for why in wants(tree)] == []


@pytest.mark.parametrize(
    "source",
    [
        "mark = pytest.mark.skipif(not HAS, reason='x')\nHAS = find_spec('nx_27017') is not None",
        "aiohttp = pytest.importorskip('aiohttp')",
        "def test():\n    if not path.exists():\n        pytest.skip('x')",
        "def test():\n    return shutil.which('x') or pytest.skip('x')",
        "try:\n    import motor\nexcept ImportError:\n    pytest.skip('x', allow_module_level=True)",
    ],
)
def test_skips_for_want_of_a_part_are_found(source: str) -> None:
    assert len(list(wants(ast.parse(source)))) == 1


def wants(tree: ast.Module) -> Iterator[str]:
    """What skips hang on, of those that hang on a part."""
    named = {ast.unparse(n.targets[0]): ast.unparse(n.value) for n in tree.body if isinstance(n, ast.Assign)}
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and _skips(*node.body, *node.orelse):
            why = ast.unparse(node.test)
        elif isinstance(node, ast.ExceptHandler) and _skips(*node.body) and node.type is not None:
            why = ast.unparse(node.type)
        elif isinstance(node, ast.Return | ast.Expr | ast.Assign) and _skips(node):
            why = ast.unparse(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and _skips(*node.decorator_list):
            why = " ".join(map(ast.unparse, node.decorator_list))
        else:
            continue
        why = re.sub(r"\b[A-Za-z_]\w*", lambda name: named.get(name[0], name[0]), why)
        if LOOKS.search(VERSIONS.sub("", why)):
            yield why


def _skips(*nodes: ast.AST) -> bool:
    calls = (ast.unparse(n.func) for node in nodes for n in ast.walk(node) if isinstance(n, ast.Call))
    return any(call.startswith("pytest.") and call.endswith(("skip", "skipif")) for call in calls)


def test_ci_installs_what_is_missing(tmp_path: Path) -> None:
    """On a machine that has nothing but what is required, by its name."""
    calls = tmp_path / "calls"
    for name in ("apt-get", "make"):
        stub = tmp_path / name
        stub.write_text(f'#!/bin/sh\necho "{name} $* CI=$CI" >> {calls}\n')
        stub.chmod(0o755)
    for name, real in (("bash", shutil.which("bash")), ("dirname", shutil.which("dirname"))):
        assert real is not None
        (tmp_path / name).symlink_to(real)
    environment = {**os.environ, "PATH": str(tmp_path)}  # and so no Python with a `venv`
    done = subprocess.run(
        [tmp_path / "bash", ROOT / ".ci" / "run"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    update, install, test = calls.read_text().splitlines()
    assert update.startswith("apt-get -qq update")
    assert {*installed_by_ci().values(), "python3-venv"} <= set(install.split())
    assert test == "make test CI=true"
