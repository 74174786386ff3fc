"""Where the file of a service's alert state is."""

import hashlib
import json
import re
from pathlib import Path

import platformdirs

_INDISTINCT = re.compile(r"(?:fastapi|unknown_service.*)?", re.IGNORECASE)
_READABLE_LENGTH = 60


def state_path(directory: Path | None, *, service_name: str, environment: str | None) -> Path:
    """The file for a service in an environment: readable, and no other service's or environment's.

    A name that many services have (FastAPI's default title, the SDK's `unknown_service`, none) says nothing: the
    working directory tells such services apart.

    Args:
        directory: Where it is to be; None: the state directory of the platform.
        service_name: `service.name`.
        environment: `deployment.environment.name`, if there is one.
    """
    if directory is None:
        directory = platformdirs.user_state_path("otel_monitoring", appauthor=False)
    indistinct = _INDISTINCT.fullmatch(service_name.strip()) is not None
    identity = [service_name, environment or "", str(Path.cwd()) if indistinct else ""]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:10]
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(part for part in identity[:2] if part)).strip("._-")
    name = f"{readable[:_READABLE_LENGTH] or 'alerts'}-{digest}.db"
    return directory.expanduser().absolute() / name
