"""Where the file of a service's alert state is."""

import errno
import hashlib
import json
import os
import re
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

import platformdirs

from otel_monitoring.alerts.store.state_file import StateFile
from otel_monitoring.errors import StoreError

_INDISTINCT = re.compile(r"(?:fastapi|unknown_service.*)?", re.IGNORECASE)
_READABLE_LENGTH = 60
_PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)


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
