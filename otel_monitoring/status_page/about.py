"""`about`: the versions that run, and the settings in force, without secrets."""

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from otel_monitoring.config.settings import Settings, settings_in_force
from otel_monitoring.redact import redact

_PACKAGES: Final = ("otel-monitoring", "fastapi", "starlette", "uvicorn", "pymongo", "motor", "opentelemetry-sdk")


def about(settings: Settings, service: Mapping[str, str]) -> dict[str, Any]:
    """The answer: `versions` by name, and `settings`: the variable of each, its value, whether it is the default.

    Args:
        settings: The settings of the service.
        service: Its name, version, environment and host.
    """
    found = {"service": service.get("version") or "none", "Python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {"versions": {name: redact(text) for name, text in found.items()}, "settings": settings_in_force(settings)}
