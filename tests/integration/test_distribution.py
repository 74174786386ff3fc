"""The sdist and wheel of a release: built without a network, checked, installed and started away from the checkout."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest

from otel_monitoring.export import ExportOptions, render
from tests.conftest import unavailable
from tests.integration.processes import ROOT, Service, serving

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

APPLICATION = """
from fastapi import FastAPI
from otel_monitoring import MonitoringService

app = FastAPI()
monitoring = MonitoringService(None, store="memory").instrument(app)
"""
PLAIN = "from fastapi import FastAPI\napp = FastAPI()\n"
BESIDE_THE_PACKAGE = {
    *(".ci", ".github", ".gitignore", ".pre-commit-config.yaml", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"),
    *("Makefile", "PKG-INFO", "README.md", "SECURITY.md", "collector-config", "constraints.txt", "docs", "examples"),
    *("pyproject.toml", "tests"),
}


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    """What a command prints, away from the checkout and from this environment's settings."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "TERM": "dumb", **env}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With both files in `dist`. The wheel is built from the sdist, so the sdist is complete."""
    missing = [name for name in ("build", "hatchling", "twine") if find_spec(name) is None]
    if missing:
        unavailable(f"not installed: {', '.join(missing)}")
    folder = tmp_path_factory.mktemp("distribution")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(folder: Path) -> Path:
    (found,) = (folder / "dist").glob("*.whl")
    return found


@pytest.fixture(scope="module")
def python(folder: Path, wheel: Path) -> Path:
    """An environment with the wheel, and with what it depends on from this one; the checkout is not on its path."""
    venv.create(folder / "environment", symlinks=True)
    python = folder / "environment" / "bin" / "python"
    install = ("install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", wheel)
    run(sys.executable, "-m", "pip", "--python", python, *install, cwd=folder)
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    dependencies = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    (packages / "dependencies.pth").write_text("\n".join(dependencies))
    return python


@pytest.fixture
def service(python: Path, tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path, APPLICATION, python=python, PYTHONPATH="") as service:
        yield service


def test_twine_finds_nothing_to_say(folder: Path) -> None:
    files = sorted((folder / "dist").iterdir())
    assert [file.name.endswith((".whl", ".tar.gz")) for file in files] == [True, True]
    checked = run(sys.executable, "-m", "twine", "check", "--strict", *files, cwd=folder)
    assert checked.count("PASSED") == 2


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (licence,) = [name for name in archive.namelist() if name.endswith("/licenses/LICENSE")]
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()
    package = ROOT / "otel_monitoring"
    tracked = {str(p.relative_to(ROOT)) for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert names == tracked
    assert "otel_monitoring/py.typed" in names
    assert "otel_monitoring/export/dashboards/health.json" in names


def test_the_sdist_has_what_a_contributor_needs_and_nothing_else(folder: Path) -> None:
    (file,) = (folder / "dist").glob("*.tar.gz")
    with tarfile.open(file) as archive:
        paths = [Path(*Path(name).parts[1:]) for name in archive.getnames()]
    top = {path.parts[0] for path in paths}
    there = {name for name in BESIDE_THE_PACKAGE if (ROOT / name).exists()}
    assert top == {"otel_monitoring", "PKG-INFO", *there}
    assert not [path for path in paths if "__pycache__" in path.parts or path.suffix == ".pyc"]


def test_what_is_installed_is_imported_away_from_the_checkout(python: Path, tmp_path: Path) -> None:
    source = "import otel_monitoring; print(otel_monitoring.__file__)"
    imported = Path(run(python, "-W", "error", "-c", source, cwd=tmp_path).strip())
    assert imported.is_relative_to(python.parents[1])


def test_the_installed_command_exports_the_dashboards(python: Path, tmp_path: Path) -> None:
    command = python.with_name("otel-monitoring")
    run(command, "export", "grafana", "--out", tmp_path, cwd=tmp_path)
    made = render("grafana", [], ExportOptions())
    for name in ("service", "health"):
        path = f"grafana/dashboards/{name}.json"
        assert json.loads((tmp_path / path).read_text()) == json.loads(made[path])
    assert "doctor" in run(command, "--help", cwd=tmp_path)


def test_an_application_with_the_installed_package_answers(service: Service) -> None:
    answer = service.get("/api/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "healthy")


def test_the_installed_entry_points_instrument_an_application(python: Path, tmp_path: Path) -> None:
    run_command = (str(python.with_name("otel-monitoring")), "run")
    with serving(tmp_path, PLAIN, before=run_command, python=python, PYTHONPATH="") as service:
        assert service.get("/api/health").status_code == 200
