"""Check: the folder of the alert store can be written."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from otel_monitoring.alerts.store.sqlite.state_file import state_path
from otel_monitoring.cli.doctor.findings import Examination, Finding, Level
from otel_monitoring.errors import StoreError

_NAME = "state directory"
_MIN_FREE_BYTES = 64 * 1024 * 1024


def state_directory(examination: Examination) -> Iterator[Finding]:
    """Write a file into the store's folder, or into the folder in which it would be made."""
    settings = examination.settings
    if settings is None:
        yield Finding(_NAME, Level.SKIPPED, "the settings are not valid")
        return
    if settings.store == "memory":
        advice = "unset OTEL_MONITORING_STORE to keep mutes and firing alerts over a restart"
        yield Finding(_NAME, Level.SKIPPED, "OTEL_MONITORING_STORE=memory: nothing is kept", advice)
        return
    try:
        path = state_path(
            settings.state_dir, service_name=settings.service_name or "", environment=settings.environment
        )
    except StoreError as error:
        yield Finding(_NAME, Level.FAILED, str(error), "set OTEL_MONITORING_STATE_DIR to an absolute path")
        return
    directory = path.parent
    existing = next(parent for parent in (directory, *directory.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            free = shutil.disk_usage(existing).free
    except OSError as error:
        advice = "give the service's user the right to write there, or set OTEL_MONITORING_STATE_DIR"
        yield Finding(_NAME, Level.FAILED, f"{directory}: {error.strerror or error}", advice)
        return
    yield _finding(directory, existing, free)


def _finding(directory: Path, existing: Path, free: int) -> Finding:
    if free < _MIN_FREE_BYTES:
        return Finding(_NAME, Level.WARNING, f"{directory}: {free // 2**20} MiB free", "make room there")
    made = "" if existing == directory else " (will be made)"
    return Finding(_NAME, Level.OK, f"{directory} can be written{made}")
