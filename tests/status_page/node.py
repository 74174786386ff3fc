"""What the tests of the page need of npm, installed into the user's cache: once per set of versions."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

from tests.conftest import unavailable

PACKAGES = {"axe-core": "4.14.1", "typescript": "7.0.2", "uplot": "1.6.32"}


def node_modules() -> Path:
    """The folder with the packages; the test is skipped where they cannot be had."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        unavailable("node and npm are missing: install Debian's nodejs and npm")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "otel_monitoring"
    folder = cache / f"node-{hashlib.sha256(json.dumps(PACKAGES).encode()).hexdigest()[:12]}"
    done = folder / "done"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            wanted = [f"{name}@{version}" for name, version in PACKAGES.items()]
            command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), *wanted]
            installed = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
            if installed.returncode != 0:
                unavailable(f"npm cannot install {', '.join(wanted)}: {installed.stderr[-400:]}")
            done.touch()
    return folder / "node_modules"
