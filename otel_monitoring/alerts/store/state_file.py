"""Where a service's alert state is, and `StateFile`: a database file that several processes share."""

import errno
import hashlib
import json
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

import platformdirs

from otel_monitoring.errors import StoreError
from otel_monitoring.guard import logger

try:
    import fcntl
except ImportError:  # Windows: a file that is open there cannot be renamed, which is what the lock is against.
    fcntl = None  # type: ignore[assignment]

Identity = tuple[int, int]
"""Device and inode of a file: what tells it from another of the same name."""

DAMAGED_KEPT = 3
"""How many damaged files are kept beside the one in use."""

_COMPANIONS = ("", "-wal", "-shm")
_RETRY_SECONDS = 0.01

_INDISTINCT = re.compile(r"(?:fastapi|unknown_service.*)?", re.IGNORECASE)
_READABLE_LENGTH = 60
_PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)


class StateFile:
    """The file of a store, with the files SQLite keeps beside it.

    Args:
        path: Where it is, absolute. Its directory is made when it is needed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_path = self._beside(".lock")

    def identity(self) -> Identity | None:
        """Which file has the name now; None: there is none."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def try_place(self) -> None:
        """Make the directory and the lock file, as the first use does: whether that works, only trying tells.

        Raises:
            StoreError: Others may have planted files of these names.
            OSError: The directory or the lock file cannot be made, or the file not be written.
        """
        os.close(self._open_lock())
        if self.path.exists() and not os.access(self.path, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self.path))

    @contextmanager
    def alone(self, timeout: float) -> Iterator[None]:
        """Keep other processes from opening, closing and setting aside the file meanwhile. Not re-entrant.

        Raises:
            StoreError: Another process kept us waiting longer than `timeout` seconds.
            OSError: The directory or the lock file cannot be made.
        """
        descriptor = self._open_lock()
        try:
            _lock(descriptor, timeout)
            yield
        finally:
            # Not left to the close: a child forked meanwhile, by whatever means, shares the lock with us.
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def create(self) -> None:
        """Make the file if there is none, readable for nobody else; SQLite gives its companions the same mode."""
        with suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))

    def set_aside(self, reason: str) -> None:
        """Rename the file and its companions, so that a new one can be begun. Inside `alone`, and not open here."""
        moment = datetime.fromtimestamp(time.time(), timezone.utc)
        target = self._beside(f".corrupt-{moment:%Y%m%dT%H%M%S.%fZ}")
        # The database first: a log without its database is discarded by SQLite, the reverse loses what it holds.
        for companion in _COMPANIONS:
            with suppress(FileNotFoundError):
                self._beside(companion).replace(f"{target}{companion}")
        logger.warning("alert store: %s was damaged (%s); set aside as %s", self.path, reason, target.name)
        self._forget_old_ones()

    def _open_lock(self) -> int:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._refuse_foreign_files()
        return os.open(self._lock_path, os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), 0o600)

    def _forget_old_ones(self) -> None:
        damaged = sorted(
            path for path in self.path.parent.iterdir() if path.name.startswith(f"{self.path.name}.corrupt-")
        )
        names = sorted({path.name.removesuffix("-wal").removesuffix("-shm") for path in damaged})
        kept = tuple(names[-DAMAGED_KEPT:])
        for path in damaged:
            if not path.name.startswith(kept):
                path.unlink(missing_ok=True)

    def _refuse_foreign_files(self) -> None:
        """Where others may write into the directory, only files of our own are used: they may have planted some.

        Such directories are common, e.g. `/tmp` and volumes of containers; in one of our own nobody can.
        """
        if not hasattr(os, "geteuid"):
            return
        directory, ours = self.path.parent.stat(), os.geteuid()
        if directory.st_uid in (0, ours) and not directory.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return
        for suffix in (*_COMPANIONS, ".lock"):
            path = self._beside(suffix)
            with suppress(FileNotFoundError):
                found = os.lstat(path)
                if not stat.S_ISREG(found.st_mode) or found.st_uid != ours or found.st_nlink != 1:
                    raise StoreError(f"{path}: not a file of this user, in a directory others may write to")

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)


def _lock(descriptor: int, timeout: float) -> None:
    if fcntl is None:
        return
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StoreError("another process is opening the store, and does not finish") from None
            time.sleep(_RETRY_SECONDS)
        else:
            return


def state_path(directory: Path | None, *, service_name: str, environment: str | None) -> Path:
    """The file for a service in an environment: readable, and no other service's or environment's.

    A name that many services have (FastAPI's default title, the SDK's `unknown_service`, none) says nothing: the
    working directory tells such services apart.

    Args:
        directory: Where it is to be; None: the state directory of the platform.
        service_name: `service.name`.
        environment: `deployment.environment.name`, if there is one.

    Raises:
        StoreError: There is no such directory: nobody says where this user's home is, or the working directory is gone.
    """
    return _directory(directory) / _file_name(service_name, environment)


def private_path(*, service_name: str, environment: str | None) -> Path:
    """The same file where the state directory cannot be used: all processes of this user on this host agree on it.

    It is in a directory for temporary files, which others may write to: only a directory that is this user's, and that
    nobody else can enter, is used.

    Raises:
        StoreError: There is none.
    """
    try:
        base = Path(tempfile.gettempdir())
        directory = base / f"otel_monitoring-{os.geteuid() if hasattr(os, 'geteuid') else 'alerts'}"
        with suppress(FileExistsError):
            directory.mkdir(0o700)
        _refuse_shared(base, directory)
    except OSError as error:
        raise StoreError(f"no directory for temporary files: {error.strerror or error}") from error
    return directory / _file_name(service_name, environment)


def make_usable(path: Path) -> None:
    """Make the directory of the file and try to write there. What passes, such as a full disk, is no refusal.

    Raises:
        StoreError: The file cannot be there; the message names what is in the way.
    """
    try:
        StateFile(path).try_place()
    except OSError as error:
        if error.errno not in _PASSING:
            where = f"{error.filename}: " if error.filename not in (None, str(path.parent)) else ""
            raise StoreError(f"{path.parent}: {where}{error.strerror or error}") from error


def _directory(given: Path | None) -> Path:
    try:
        if given is not None:
            return given.expanduser().absolute()
        found = platformdirs.user_state_path("otel_monitoring", appauthor=False)
    except (RuntimeError, OSError, KeyError) as error:
        wanted = f"{given}: " if given is not None else "the state directory: "
        raise StoreError(f"{wanted}{error}") from error
    if not found.is_absolute():  # the XDG specification: such a path is to be ignored
        raise StoreError(f"{found}: HOME, or XDG_STATE_HOME, is no absolute path")
    return found


def _file_name(service_name: str, environment: str | None) -> str:
    indistinct = _INDISTINCT.fullmatch(service_name.strip()) is not None
    identity = [service_name, environment or "", _working_directory() if indistinct else ""]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:10]
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(part for part in identity[:2] if part)).strip("._-")
    return f"{readable[:_READABLE_LENGTH] or 'alerts'}-{digest}.db"


def _working_directory() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it was deleted
        return ""


def _refuse_shared(base: Path, directory: Path) -> None:
    if not hasattr(os, "geteuid"):  # Windows gives each user a directory of his own
        return
    ours = os.geteuid()
    around, found = base.stat(), os.lstat(directory)
    if around.st_mode & stat.S_IWOTH and not around.st_mode & stat.S_ISVTX:
        raise StoreError(f"{base}: everybody may rename what is in it")
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != ours or stat.S_IMODE(found.st_mode) != 0o700:
        raise StoreError(f"{directory}: it is no directory of this user alone")
