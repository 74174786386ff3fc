"""`StateFile`: a database file that several processes share, and the path of a service's state file."""

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

from otel_monitoring.config.state_directory import user_state_directory
from otel_monitoring.errors import StoreError
from otel_monitoring.guard import logger

try:
    import fcntl
except ImportError:  # Windows needs no lock: an open file cannot be renamed there.
    fcntl = None  # type: ignore[assignment]

Identity = tuple[int, int]
"""Device and inode of a file, which distinguish it from another file of the same path."""

DAMAGED_KEPT = 3
"""How many damaged files are kept."""

_SUFFIXES = ("", "-wal", "-shm")
_LOCK_RETRY_SECONDS = 0.01

_GENERIC_NAME = re.compile(r"(?:fastapi|unknown_service.*)?", re.IGNORECASE)
_READABLE_LENGTH = 60
_TEMPORARY_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)


class StateFile:
    """The file of a store, with the files that SQLite keeps beside it.

    Args:
        path: Its absolute path. Its directory is created when it is needed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_path = self._beside(".lock")

    def identity(self) -> Identity | None:
        """The identity of the file that has the path now; None: there is no file."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def check_usable(self) -> None:
        """Create the directory and the lock file, as the first use would, and check that the file is writable.

        Raises:
            StoreError: Another user may have planted one of the files.
            OSError: The directory or the lock file cannot be created, or the file cannot be written.
        """
        os.close(self._open_lock())
        if self.path.exists() and not os.access(self.path, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self.path))

    @contextmanager
    def locked(self, timeout: float) -> Iterator[None]:
        """Hold a lock in which no other process opens, closes or sets aside the file. Not re-entrant.

        Raises:
            StoreError: Another process held the lock for more than `timeout` seconds.
            OSError: The directory or the lock file cannot be created.
        """
        descriptor = self._open_lock()
        try:
            _lock(descriptor, timeout)
            yield
        finally:
            # Closing alone would not unlock: a child that was forked meanwhile shares the lock.
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def create(self) -> None:
        """Create the file if there is none, with mode 0600, which SQLite also gives to the files beside it."""
        with suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))

    def set_aside(self, reason: str) -> None:
        """Rename a damaged file and the files beside it, so that a new one can be created.

        Call it inside `locked`, without an open connection of this process.

        Args:
            reason: What is wrong with it, for the log.
        """
        now = datetime.fromtimestamp(time.time(), timezone.utc)
        target = self._beside(f".corrupt-{now:%Y%m%dT%H%M%S.%fZ}")
        # The database first: SQLite discards a log without a database, but a database without its log loses data.
        for suffix in _SUFFIXES:
            with suppress(FileNotFoundError):
                self._beside(suffix).replace(f"{target}{suffix}")
        logger.warning("alert store: %s was damaged (%s); set aside as %s", self.path, reason, target.name)
        self._delete_old_damaged()

    def _open_lock(self) -> int:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._refuse_foreign_files()
        return os.open(self._lock_path, os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), 0o600)

    def _delete_old_damaged(self) -> None:
        damaged = sorted(
            path for path in self.path.parent.iterdir() if path.name.startswith(f"{self.path.name}.corrupt-")
        )
        names = sorted({path.name.removesuffix("-wal").removesuffix("-shm") for path in damaged})
        kept = tuple(names[-DAMAGED_KEPT:])
        for path in damaged:
            if not path.name.startswith(kept):
                path.unlink(missing_ok=True)

    def _refuse_foreign_files(self) -> None:
        """Refuse files of other users in a directory that others may write to, e.g. `/tmp` or a container's volume.

        Raises:
            StoreError: One of the files is not a regular file of this user.
        """
        if not hasattr(os, "geteuid"):
            return
        directory, ours = self.path.parent.stat(), os.geteuid()
        if directory.st_uid in (0, ours) and not directory.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return
        for suffix in (*_SUFFIXES, ".lock"):
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
                raise StoreError("another process is opening the store, and does not finish", busy=True) from None
            time.sleep(_LOCK_RETRY_SECONDS)
        else:
            return


def state_path(directory: Path | None, *, service_name: str, environment: str | None) -> Path:
    """The path of the state file, unique for a service and environment.

    Services with a generic name (FastAPI's default title, the SDK's `unknown_service`, or none) are distinguished by
    their working directory.

    Args:
        directory: The directory; None: the platform's directory for state.
        service_name: `service.name`.
        environment: `deployment.environment.name`, if there is one.

    Raises:
        StoreError: The directory cannot be determined: the user has no home, or the working directory was deleted.
    """
    return _directory(directory) / f"{service_key(service_name, environment)}.db"


def private_path(*, service_name: str, environment: str | None) -> Path:
    """The path of the state file where the state directory cannot be used, the same for all processes of the user.

    It is below the directory for temporary files, in a directory that only this user may enter.

    Raises:
        StoreError: There is no such directory, and it cannot be created.
    """
    try:
        base = Path(tempfile.gettempdir())
        directory = base / f"otel_monitoring-{os.geteuid() if hasattr(os, 'geteuid') else 'alerts'}"
        with suppress(FileExistsError):
            directory.mkdir(0o700)
        _check_private(base, directory)
    except OSError as error:
        raise StoreError(f"no directory for temporary files: {error.strerror or error}") from error
    return directory / f"{service_key(service_name, environment)}.db"


def make_usable(path: Path) -> None:
    """Create the directory of the file, and check that the file can be used.

    A temporary error, e.g. a full disk, is ignored.

    Raises:
        StoreError: The file cannot be used; the message names the path in question.
    """
    try:
        StateFile(path).check_usable()
    except OSError as error:
        if error.errno not in _TEMPORARY_ERRORS:
            where = f"{error.filename}: " if error.filename not in (None, str(path.parent)) else ""
            raise StoreError(f"{path.parent}: {where}{error.strerror or error}") from error


def _directory(given: Path | None) -> Path:
    try:
        if given is not None:
            return given.expanduser().absolute()
        found = user_state_directory() / "otel_monitoring"
    except (RuntimeError, OSError) as error:
        wanted = f"{given}: " if given is not None else "the state directory: "
        raise StoreError(f"{wanted}{error}") from error
    if not found.is_absolute():
        raise StoreError(f"{found}: HOME is no absolute path")
    return found


def service_key(service_name: str, environment: str | None) -> str:
    """A readable key, unique for a service and environment: letters, digits, `.`, `_` and `-`; see `state_path`."""
    generic = _GENERIC_NAME.fullmatch(service_name.strip()) is not None
    identity = [service_name, environment or "", _working_directory() if generic else ""]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:10]
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(part for part in identity[:2] if part)).strip("._-")
    return f"{readable[:_READABLE_LENGTH] or 'alerts'}-{digest}"


def _working_directory() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it was deleted
        return ""


def _check_private(base: Path, directory: Path) -> None:
    """Check that `directory`, which is in `base`, belongs to this user, and that nobody else can enter or rename it."""
    if not hasattr(os, "geteuid"):  # on Windows every user has a directory for temporary files
        return
    ours = os.geteuid()
    parent, found = base.stat(), os.lstat(directory)
    if parent.st_mode & stat.S_IWOTH and not parent.st_mode & stat.S_ISVTX:
        raise StoreError(f"{base}: everybody may rename what is in it")
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != ours or stat.S_IMODE(found.st_mode) != 0o700:
        raise StoreError(f"{directory}: it is no directory of this user alone")
