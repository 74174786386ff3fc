"""Go programs that tests run, built from their modules into the user's cache: once per version and source.

npm packages of which tests read files are installed there too. What is made here is made before the tests: one that
begins with an installation takes a minute longer, and so do those that wait for the same.

`python -m tests.integration.builds collector`, which `make collector` runs, prints the executable's path on its last
line, and what it waits for on standard error. `all` builds everything `make test` needs. Standard library only: no
environment has to exist. Processes that ask at once wait for one build.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]

_LIMIT_SECONDS = 3600
_PROGRESS_SECONDS = 15.0


class BuildError(Exception):
    """A program cannot be built here; the message says what is missing."""


@dataclass(frozen=True)
class Program:
    """Executables that come from one set of Go modules.

    Args:
        name: How `make` and the cache call it.
        folder: Where its sources are.
        sources: The files in `folder` that decide what is built.
        version: Finds the version in them.
        executables: What the build leaves, the one asked for first.
        command: What builds them; runs in an empty folder, where they must be afterwards. `{folder}` is filled in,
            and `{version}`.
        duration: What a first build takes on two cores, for the progress line.
    """

    name: str
    folder: Path
    sources: tuple[str, ...]
    version: str
    executables: tuple[str, ...]
    command: tuple[str, ...]
    duration: str

    @property
    def path(self) -> Path:
        """Where the executable is, or will be once it has been built."""
        content = hashlib.sha256(self._content().encode()).hexdigest()[:12]
        return _cache() / f"{self.name}-{self._version()}-{content}" / self.executables[0]

    def build(self) -> Path:
        """Build it unless that has been done.

        Returns:
            The path of the first of its executables; the others lie beside it.

        Raises:
            BuildError: Go is missing, or its modules are out of reach.
        """
        if self.path.exists():
            return self.path
        go = shutil.which("go")
        if go is None:
            raise BuildError(f"{self.name} is built from source: install Go 1.26 or newer and put it on the PATH")
        folder = self.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.path.exists():
                self._compile(go, folder)
        return self.path

    def _compile(self, go: str, target: Path) -> None:
        with tempfile.TemporaryDirectory(dir=target, prefix="build-") as scratch:
            command = [
                part.format(folder=self.folder, version=self._version(), scratch=scratch) for part in self.command
            ]
            with (Path(scratch) / "output").open("w+") as output:
                self._run([go, *command], Path(scratch), output)
            # The one that is looked for comes last: where it is, all are.
            for name in reversed(self.executables):
                (Path(scratch) / "bin" / name).rename(target / name)

    def _run(self, command: list[str], scratch: Path, output: IO[str]) -> None:
        environment = {**os.environ, "CGO_ENABLED": "0"}
        started = time.monotonic()
        process = subprocess.Popen(command, cwd=scratch, env=environment, stdout=output, stderr=output)
        try:
            while True:
                self._report(time.monotonic() - started)
                try:
                    code = process.wait(_PROGRESS_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    if time.monotonic() - started > _LIMIT_SECONDS:
                        raise BuildError(f"{self.name} was not built within {_LIMIT_SECONDS} s") from None
        finally:
            process.kill()
        if code != 0:
            output.seek(0)
            raise BuildError(
                f"{self.name} could not be built (are its Go modules within reach?): {output.read()[-800:]}"
            )

    def _report(self, seconds: float) -> None:
        minutes, rest = divmod(int(seconds), 60)
        line = f"Building {self.name} {self._version()} (once, about {self.duration} on two cores): {minutes}:{rest:02}"
        end = "\r" if sys.stderr.isatty() else "\n"
        print(line, end=end, file=sys.stderr, flush=True)  # noqa: T201 - for the person who waits

    def _version(self) -> str:
        found = re.search(self.version, self._content())
        if found is None:
            raise BuildError(f"no version of {self.name} in {', '.join(self.sources)}")
        return found[1]

    def _content(self) -> str:
        return "".join((self.folder / name).read_text() for name in self.sources)


@dataclass(frozen=True)
class Module:
    """A Go module of which tests read files; it stays in Go's module cache."""

    path: str
    version: str

    def fetch(self) -> Path:
        """Its folder, downloaded unless it is there.

        Raises:
            BuildError: Go is missing, or the module is out of reach.
        """
        go = shutil.which("go")
        if go is None:
            raise BuildError(f"{self.path} is a Go module: install Go and put it on the PATH")
        command = [go, "mod", "download", "-json", f"{self.path}@{self.version}"]
        done = subprocess.run(command, cwd=tempfile.gettempdir(), capture_output=True, text=True, check=False)
        found = json.loads(done.stdout or "{}")
        if "Dir" not in found:
            raise BuildError(f"{self.path}@{self.version} cannot be had: {found.get('Error', done.stderr)}")
        return Path(found["Dir"])


@dataclass(frozen=True)
class Packages:
    """npm packages of which tests use files, installed into the user's cache: once for each set of versions.

    Args:
        versions: The versions by name.
    """

    versions: Mapping[str, str]

    def install(self) -> Path:
        """The folder with the packages, `node_modules`.

        Raises:
            BuildError: node or npm is missing, or the packages are out of reach.
        """
        npm = shutil.which("npm")
        if npm is None or shutil.which("node") is None:
            raise BuildError("node and npm are missing: install Debian's nodejs and npm")
        folder = _cache() / f"node-{hashlib.sha256(json.dumps(dict(self.versions)).encode()).hexdigest()[:12]}"
        done = folder / "done"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                wanted = [f"{name}@{version}" for name, version in self.versions.items()]
                options = ("--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder))
                made = subprocess.run([npm, "install", *options, *wanted], capture_output=True, text=True, check=False)
                if made.returncode != 0:
                    raise BuildError(f"npm cannot install {', '.join(wanted)}: {made.stderr[-400:]}")
                done.touch()
        return folder / "node_modules"


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "otel_monitoring"


_HERE = Path(__file__).parent
_GO_BUILD = ("build", "-C", "{folder}", "-trimpath", "-ldflags=-s -w", "-o", "{scratch}/bin/")
_PROMETHEUS = "github.com/prometheus/prometheus/cmd/"

FERRETDB = Program(
    name="ferretdb",
    folder=_HERE / "ferretdb",
    sources=("main.go", "go.mod", "go.sum"),
    version=r"FerretDB/FerretDB v(\S+)",
    executables=("ferretdb",),
    command=(*_GO_BUILD, "."),
    duration="1 minute",
)
KAFKA = Program(
    name="kafka",
    folder=_HERE / "kafka",
    sources=("main.go", "go.mod", "go.sum"),
    version=r"twmb/franz-go v(\S+)",
    executables=("kafka",),
    command=(*_GO_BUILD, "."),
    duration="1 minute",
)
PROMETHEUS = Program(
    name="prometheus",
    folder=_HERE / "prometheus",
    sources=("go.mod", "go.sum"),
    version=r"prometheus/prometheus v(\S+)",
    executables=("prometheus", "promtool"),
    command=(*_GO_BUILD, f"{_PROMETHEUS}prometheus", f"{_PROMETHEUS}promtool"),
    duration="6 minutes",
)
VICTORIAMETRICS = Program(
    name="victoriametrics",
    folder=_HERE / "victoriametrics",
    sources=("go.mod", "go.sum"),
    version=r"VictoriaMetrics/VictoriaMetrics v(\S+)",
    executables=("victoria-metrics",),
    command=(*_GO_BUILD, "github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-metrics"),
    duration="4 minutes",
)
COLLECTOR = Program(
    name="collector",
    folder=ROOT / "collector-config",
    sources=("builder.yaml",),
    version=r"\bversion: (\S+)",
    executables=("otelcol",),
    command=("run", "go.opentelemetry.io/collector/cmd/builder@v{version}", "--config", "{folder}/builder.yaml"),
    duration="6 minutes",
)
CLIENT_GO = Module("k8s.io/client-go", "v0.35.4")
"""Has the OpenAPI documents of Kubernetes' core and apps, which its own tests read."""
PROMETHEUS_OPERATOR = Module("github.com/prometheus-operator/prometheus-operator", "v0.85.0")
"""Has the definitions of its resources."""
MODULES = (CLIENT_GO, PROMETHEUS_OPERATOR)
NODE = Packages({"axe-core": "4.14.1", "typescript": "7.0.2", "uplot": "1.6.32"})
"""Tests of the status page use these."""
PROGRAMS = {program.name: program for program in (COLLECTOR, PROMETHEUS, FERRETDB, VICTORIAMETRICS, KAFKA)}


def main(arguments: list[str]) -> int:
    """Build what the one argument names; without CI a part that cannot be had is only reported."""
    if len(arguments) != 1 or arguments[0] not in (*PROGRAMS, "all"):
        print(f"usage: python -m tests.integration.builds {{{','.join(PROGRAMS)},all}}", file=sys.stderr)  # noqa: T201
        return 2
    everything = arguments[0] == "all"
    makers = [*(program.build for program in PROGRAMS.values()), *(module.fetch for module in MODULES), NODE.install]
    for make in makers if everything else [PROGRAMS[arguments[0]].build]:
        try:
            print(make())  # noqa: T201 - a command's answer
        except BuildError as error:
            print(error, file=sys.stderr)  # noqa: T201
            if not everything or os.environ.get("CI") == "true":
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
