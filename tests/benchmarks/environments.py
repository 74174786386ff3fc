"""The peers' environments: one each, outside the checkout, made when first needed, with the versions in `peers/`.

Each of those files is a `pip freeze` of the peer's latest release beside the FastAPI that this checkout is tested with.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from tests.benchmarks.report import say
from tests.benchmarks.variants import PROJECT

_PINS = Path(__file__).parent / "peers"
_INSTALL_SECONDS = 600


class PeerUnavailableError(Exception):
    """A peer cannot be installed here; the message says why."""


def cache() -> Path:
    """Where the environments are."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "otel_monitoring"


def python_of(environment: str) -> Path:
    """The interpreter of an environment, which is made or renewed if need be.

    Raises:
        PeerUnavailableError: It cannot be made.
    """
    if environment == PROJECT:
        return Path(sys.executable)
    pins = _PINS / f"{environment}.txt"
    folder = cache() / f"bench-{environment}"
    python = folder / "bin" / "python"
    ready = folder / "ready"
    wanted = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()
    if ready.is_file() and ready.read_text() == wanted:
        return python
    say(f"installing {environment} in {folder} (once) ...")
    try:
        venv.create(folder, clear=True, with_pip=True, symlinks=True)
        _pip(python, "install", "--quiet", "--requirement", str(pins))
    except (OSError, subprocess.SubprocessError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise PeerUnavailableError(_reason(error)) from error
    ready.write_text(wanted)
    return python


def _pip(python: Path, *arguments: str) -> None:
    subprocess.run(
        [str(python), "-m", "pip", "--disable-pip-version-check", *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=_INSTALL_SECONDS,
    )


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = [line for line in error.stderr.splitlines() if line.startswith("ERROR")] if error.stderr else []
        return lines[-1] if lines else f"pip ended with {error.returncode}"
    return str(error)
