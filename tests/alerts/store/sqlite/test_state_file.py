"""The state file is found wherever a process runs, the workers of a host agree on it, and nobody else can plant it."""

import errno
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from otel_monitoring.alerts.store import MemoryStore, open_store
from otel_monitoring.alerts.store.fallback import FallbackStore
from otel_monitoring.alerts.store.sqlite import SqliteStore
from otel_monitoring.alerts.store.sqlite.state_file import private_path, state_path
from otel_monitoring.config import Settings
from otel_monitoring.errors import StoreError

NOBODY = 12_345
"""A user without an entry in the password database."""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files are."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    folder.chmod(0o1777)
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def private() -> Path:
    return private_path(service_name="orders", environment=None)


@pytest.mark.slow
def test_without_a_home_all_processes_of_a_user_agree() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    script = textwrap.dedent(f"""
        import os, sys
        from otel_monitoring.config import Settings
        from otel_monitoring.alerts.store import open_store
        os.setgroups([]), os.setgid({NOBODY}), os.setuid({NOBODY})
        store = open_store(Settings.load(), service_name="orders", environment=None)
        print(bool(store.leases.lead(sys.argv[1], 0, 60)), "home" in store.problem)
    """)
    # Not pytest's own, which nobody else may enter.
    with TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o1777)
        answers = [
            subprocess.run(
                [sys.executable, "-c", script, worker],
                env={"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "TMPDIR": folder},
                cwd="/",
                capture_output=True,
                text=True,
                timeout=60,
            )
            for worker in ("one", "two")
        ]
        assert [answer.stdout for answer in answers] == ["True True\n", "False True\n"], answers
        assert all("determine home directory" in answer.stderr for answer in answers)
        [directory] = Path(folder).iterdir()
        assert (directory.stat().st_uid, directory.stat().st_mode & 0o777) == (NOBODY, 0o700)


ONLY_TRYING_TELLS = ["/proc/nope/x", "/proc", "/sys/nope"] if sys.platform == "linux" else []
"""`access(2)` allows root to write there, and nothing can be made."""


@pytest.mark.parametrize("directory", ["~no-such-user/x", "/dev/null/x", *ONLY_TRYING_TELLS])
def test_a_directory_that_cannot_be_used_is_replaced(
    directory: str, temporary: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(
        Settings.load(store="sqlite", state_dir=Path(directory)), service_name="orders", environment=None
    )
    assert isinstance(store, FallbackStore)
    assert store.outbox.backlog() == {}
    assert private().exists()
    [said] = caplog.messages
    assert said.startswith(f"alert store: {directory}")
    assert said == f"alert store: {store.problem}"
    assert str(private()) in said
    store.close()


def test_a_relative_home_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", "not/absolute")
    with pytest.raises(StoreError, match="is no absolute path"):
        state_path(None, service_name="orders", environment=None)


@pytest.mark.parametrize("name", ["FastAPI", "orders"])
def test_a_deleted_working_directory_is_no_obstacle(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert state_path(Path("/var/lib/orders"), service_name=name, environment=None).is_absolute()
    with pytest.raises(StoreError, match="relative"):
        state_path(Path("relative"), service_name=name, environment=None)
    assert private_path(service_name=name, environment=None).is_absolute()


def link(path: Path) -> None:
    path.symlink_to(path.parent)


def loose(path: Path) -> None:
    path.mkdir()
    path.chmod(0o755)


def foreign(path: Path) -> None:
    path.mkdir(0o700)
    os.chown(path, NOBODY, NOBODY)


def everybodys(path: Path) -> None:
    path.parent.chmod(0o777)  # without the sticky bit


@pytest.mark.parametrize(
    "plant", [link, loose, Path.touch, everybodys, *([foreign] if os.geteuid() == 0 else [])], ids=lambda p: p.__name__
)
def test_what_somebody_else_may_have_planted_is_not_used(
    plant: object, temporary: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert callable(plant)
    plant(temporary / f"otel_monitoring-{os.geteuid()}")
    with pytest.raises(StoreError, match=r"user alone|everybody may rename"):
        private()
    settings = Settings.load(store="sqlite", state_dir=Path("/dev/null/x"))
    store = open_store(settings, service_name="orders", environment=None)
    assert isinstance(store, MemoryStore)
    [said] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert said.endswith("this process keeps it in memory")
    assert said == f"alert store: {store.problem}"


def test_a_full_disk_is_no_reason_to_leave_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    settings = Settings.load(store="sqlite", state_dir=tmp_path)
    store = open_store(settings, service_name="orders", environment=None)
    assert isinstance(store, FallbackStore)
    assert isinstance(store.primary, SqliteStore)
    assert (store.primary.path.parent, store.problem) == (tmp_path, None)


def test_without_any_place_it_is_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", nowhere)
    settings = Settings.load(store="sqlite", state_dir=Path("/dev/null/x"))
    assert isinstance(open_store(settings, service_name="orders", environment=None), MemoryStore)
