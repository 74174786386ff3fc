"""`pip install` where nothing is pinned: each extra, and all of them, in an environment of its own; and a start there.

Beside the pip of this Python, the oldest one that is supported and the newest one look for a solution.
"""

import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import metadata
from pathlib import Path

import pytest

from tests.conftest import unavailable
from tests.integration.processes import ROOT
from tests.matrix import interpreters
from tests.shares import made_once

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

USES = {
    "apprise": "import warnings; warnings.simplefilter('default')  # its import of imghdr\n"
    "from otel_monitoring.alerts.notify.channels.apprise import AppriseChannel\n"
    "from pydantic import SecretStr; AppriseChannel(SecretStr('json://localhost'), 'json')",
    "cloud": "from importlib.metadata import entry_points\n"
    "assert {'aws_ec2', 'azure_vm', 'gcp'} <= entry_points(group='opentelemetry_resource_detector').names",
    "config": "import os, pathlib, tempfile\n"
    "path = pathlib.Path(tempfile.mkdtemp(), 'otel.json')\n"
    'path.write_text(\'{"file_format": "1.0", "disabled": true}\')\n'
    "os.environ['OTEL_CONFIG_FILE'] = str(path)\n"
    "assert MonitoringService(None, store='memory').settings.sdk_disabled",
    "cli": "from otel_monitoring.cli.commands import run_command_line; assert run_command_line(['--help']) == 0",
    "export": "from otel_monitoring import export; assert export.grafana(monitoring.alert_manager.rules)",
    "http": "from opentelemetry.instrumentation import httpx",
    "mongodb": "from pymongo import MongoClient; MongoClient('mongodb://127.0.0.1:1', connect=False).close()",
}
"""What each extra is there for."""
EVERYTHING = ",".join(USES)

START = """
import asyncio, sys
import httpx
from fastapi import FastAPI
from otel_monitoring import MonitoringService

app = FastAPI()
monitoring = MonitoringService(None, store="memory").instrument(app)

async def main():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answer = await client.get("/api/health")
    await monitoring.stop()
    print(answer.status_code, answer.json()["status"])

asyncio.run(main())
"""


class Installer:
    """A folder with a fresh environment, whose pip installs packages without the settings of this one.

    Args:
        folder: Where `environment` is.
        pip: Where another pip is than that of the environment.
    """

    def __init__(self, folder: Path, pip: Path | None = None) -> None:
        self.folder = folder
        self.python = folder / "environment" / "bin" / "python"
        self._pip = pip

    @property
    def wheel(self) -> Path:
        [found] = self.folder.glob("*.whl")
        return found

    def pip(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        env = {name: value for name, value in os.environ.items() if name not in {"PIP_CONSTRAINT", "PYTHONPATH"}}
        env["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
        if self._pip:
            env["PYTHONPATH"] = str(self._pip)
        return _run(self.python, "-m", "pip", *arguments, env=env)


def _run(*command: str | Path, env: dict[str, str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, check=False, timeout=600)


@pytest.fixture(scope="module")
def installer(tmp_path_factory: pytest.TempPathFactory) -> Installer:
    def make(folder: Path) -> None:
        venv.create(folder / "environment", with_pip=True, symlinks=True)
        built = Installer(folder).pip("wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT))
        if "from versions: none" in built.stderr:
            unavailable(f"pip reaches no package index: {built.stderr[-300:]}")
        assert built.returncode == 0, built.stderr

    return Installer(made_once(tmp_path_factory, "install", make))


def test_each_extra_is_tried() -> None:
    assert {*(metadata("otel-monitoring").get_all("Provides-Extra") or [])} - {"dev", "test"} == USES.keys()


@pytest.fixture(scope="module")
def without_extras(installer: Installer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the package alone."""

    def make(folder: Path) -> None:
        copy_environment(installer.folder / "environment", folder / "environment")
        done = Installer(folder).pip("install", "--quiet", str(installer.wheel))
        assert done.returncode == 0, done.stderr

    return made_once(tmp_path_factory, "without extras", make) / "environment"


def copy_environment(source: Path, target: Path) -> None:
    """Copy a virtual environment: its files are shared, pip replaces those that it changes."""
    shutil.copytree(source, target, symlinks=True, copy_function=os.link)


@pytest.mark.parametrize("extras", ["", *USES, EVERYTHING])
def test_what_is_installed_starts(installer: Installer, without_extras: Path, tmp_path: Path, extras: str) -> None:
    copy_environment(without_extras, tmp_path / "environment")
    own = Installer(tmp_path)
    if extras:
        done = own.pip("install", "--quiet", f"{installer.wheel}[{extras}]")
        assert done.returncode == 0, done.stderr
    source = "\n".join([START, *(USES[extra] for extra in extras.split(",") if extra)])
    started = _run(own.python, "-B", "-W", "error", "-c", source, env={"HOME": str(tmp_path)}, cwd=tmp_path)
    assert started.stdout.startswith("200 healthy\n"), started.stderr
    assert started.returncode == 0, started.stderr


@pytest.mark.long
@pytest.mark.parametrize(
    "version",
    [
        pytest.param(
            "pip==22.2.*",
            marks=pytest.mark.skipif(sys.version_info >= (3, 12), reason="this pip does not run on Python 3.12"),
        ),
        "pip",
    ],
)
def test_every_pip_finds_a_solution(installer: Installer, tmp_path: Path, version: str) -> None:
    assert installer.pip("install", "--quiet", "--target", str(tmp_path), version).returncode == 0
    other = Installer(installer.folder, tmp_path)
    assert version.strip(".*").replace("==", " ") in other.pip("--version").stdout
    found = other.pip("install", "--quiet", "--dry-run", "--ignore-installed", f"{installer.wheel}[{EVERYTHING}]")
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("extras", ["", EVERYTHING])
def test_python_3_9_is_told_that_it_is_too_old(installer: Installer, tmp_path: Path, extras: str) -> None:
    """By the pip that comes with it."""
    old = interpreters().get("3.9")
    if old is None:
        pytest.skip("there is no Python 3.9 here")
    assert _run(old, "-m", "venv", tmp_path / "environment", env={}).returncode == 0
    done = Installer(tmp_path).pip("install", f"{installer.wheel}[{extras}]" if extras else str(installer.wheel))
    assert done.returncode == 1
    assert "Package 'otel-monitoring' requires a different Python: 3.9" in done.stderr
    assert "not in '>=3.10'" in done.stderr
