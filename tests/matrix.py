"""`python -m tests.matrix`, which `make matrix` runs: each Python, and FastAPI and PyMongo from oldest to newest.

Each Python >= 3.10 on the PATH or of pyenv has an environment of its own with the pinned versions, in which units and
conformance run. FastAPI and PyMongo are tried in pairs, each from a folder of its own before the packages of the
environment this runs in; conformance and tests/instrumentation run there. All of that is in the user's cache and is
used again. One process at a time, behind whatever else the machine does.

It prints the table that docs/compatibility.md quotes. Names as arguments choose rows: `3.13`, `0.142.4`. Standard
library only.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
RELEASES = (
    ("0.115.0", "4.9"),
    ("0.118.3", "4.9.2"),
    ("0.122.1", "4.10.1"),
    ("0.126.0", "4.11.3"),
    ("0.130.0", "4.12.1"),
    ("0.135.4", "4.13.2"),
    ("0.137.2", "4.14.1"),
    ("0.140.13", "4.15.5"),
    ("0.142.4", "4.16.0"),
    ("0.147.0", "4.17.0"),
    ("0.153.0", "4.18.3"),
    ("0.158.2", "4.19.0"),
    ("0.162.7", "4.20.0"),
    ("0.165.0", "4.20.1"),
)
"""FastAPI with PyMongo, from the oldest that is supported to the one that is pinned."""

_UNITS = ("tests", "--ignore", "tests/benchmarks", "--ignore", "tests/integration")
_RELEASE_TESTS = ("tests/conformance", "tests/instrumentation")
_VERSION = "import sys; print('.'.join(map(str, sys.version_info[:3])))"


@dataclass(frozen=True)
class Row:
    """What is tried together.

    Args:
        name: How it is chosen.
        title: How the table calls it.
        kind: The line of the table it is in.
        passed: The outcome; None: it is not to be had here.
    """

    name: str
    title: str
    kind: str
    passed: bool | None


def interpreters() -> dict[str, Path]:
    """Every CPython on the PATH or of pyenv, by version as "3.12": the newest of each."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates = [
        *sorted(pyenv.glob("versions/*/bin/python")),
        *(path for folder in folders if folder != pyenv / "shims" for path in sorted(folder.glob("python3*"))),
    ]
    found: dict[str, tuple[tuple[int, ...], Path]] = {}
    for path in candidates:
        if re.fullmatch(r"python(3(\.\d+)?)?", path.name) and (version := _version(path)):
            name = f"{version[0]}.{version[1]}"
            if name not in found or version > found[name][0]:
                found[name] = version, path
    return {name: path for name, (_, path) in found.items()}


def _version(python: Path) -> tuple[int, ...] | None:
    try:
        done = subprocess.run([python, "-I", "-c", _VERSION], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return tuple(map(int, done.stdout.split("."))) if done.returncode == 0 else None


def table(rows: Iterable[Row]) -> str:
    """The rows as Markdown, in two lines: Pythons, and FastAPI with PyMongo."""
    lines: dict[str, list[str]] = {}
    for row in rows:
        outcome = {True: "", False: " **fails**", None: " not found"}[row.passed]
        lines.setdefault(row.kind, []).append(row.title + outcome)
    return "\n".join(["| tried | releases |", "|---|---|", *(f"| {k} | {', '.join(v)} |" for k, v in lines.items())])


def rows(passed: bool | None, pythons: Iterable[str] = PYTHONS) -> list[Row]:
    """All rows, with the same outcome."""
    pairs = [Row(fastapi, f"{fastapi} with {pymongo}", "FastAPI with PyMongo", passed) for fastapi, pymongo in RELEASES]
    return [*(Row(version, version, "Python", passed) for version in pythons), *pairs]


def main(names: Sequence[str]) -> int:
    """Try what is named, or everything; 1 where something fails."""
    os.nice(10)
    found, pymongo = interpreters(), dict(RELEASES)
    newer = [version for version in found if version not in PYTHONS and tuple(map(int, version.split("."))) > (3, 10)]
    tried: list[Row] = []
    for row in rows(None, [*PYTHONS, *newer]):
        if names and row.name not in names:
            continue
        passed = None
        if row.name in pymongo:
            passed = _try_releases(row.name, pymongo[row.name])
        elif row.name in found:
            passed = _try_python(row.name, found[row.name])
        tried.append(replace(row, passed=passed))
        _say(f"{row.title}: {passed}")
    print(table(tried))  # noqa: T201 - a command's answer
    return int(any(row.passed is False for row in tried))


def _try_python(version: str, python: Path) -> bool:
    folder = _cache() / f"matrix-python-{version}"
    pins = ROOT / "constraints.txt"
    own = folder / "bin" / "python"

    def install() -> bool:
        _say(f"setting up {folder} (once) ...")
        return _succeeds([python, "-m", "venv", folder]) and _pip(own, "-c", pins, "-e", f"{ROOT}[dev]")

    known = f"{_version(python)} {ROOT} {pins.read_text()} {(ROOT / 'pyproject.toml').read_text()}"
    return _ready(folder, known, install) and _pytest(own, _UNITS, folder)


def _try_releases(fastapi: str, pymongo: str) -> bool:
    folder = _cache() / f"matrix-fastapi-{fastapi}-pymongo-{pymongo}"
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not _open(line)]

    def install() -> bool:
        _say(f"installing {folder} (once) ...")
        folder.mkdir(parents=True)
        (folder / "pins").write_text("\n".join(pins))
        wanted = (f"fastapi=={fastapi}", f"pymongo=={pymongo}")
        return _pip(sys.executable, "--no-compile", "--target", folder, "-c", folder / "pins", *wanted)

    known = f"{sys.version} {fastapi} {pymongo} {pins}"
    return _ready(folder, known, install) and _pytest(sys.executable, _RELEASE_TESTS, folder, before=[folder])


def _open(pin: str) -> bool:
    return re.match(r"(fastapi|starlette|pymongo)\b(?!-)", pin) is not None


def _ready(folder: Path, known: str, install: Callable[[], bool]) -> bool:
    """Whether the folder is as `known` says, or could be made so."""
    ready, wanted = folder / "ready", hashlib.sha256(known.encode()).hexdigest()
    if ready.is_file() and ready.read_text() == wanted:
        return True
    shutil.rmtree(folder, ignore_errors=True)
    if not install():
        return False
    ready.write_text(wanted)
    return True


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "otel_monitoring"


def _pip(python: str | Path, *arguments: str | Path) -> bool:
    return _succeeds([python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", *arguments])


def _pytest(python: str | Path, tests: Sequence[str], folder: Path, before: Sequence[Path] = ()) -> bool:
    command = [python, "-m", "pytest", "-q", "-n", "0", "-o", f"cache_dir={folder / 'pytest'}", *tests]
    path = os.pathsep.join(map(str, (*before, ROOT)))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    return _succeeds(command, environment)


def _succeeds(command: Sequence[str | Path], environment: dict[str, str] | None = None) -> bool:
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=sys.stderr, check=False)
    return done.returncode == 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - for the person who waits


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
