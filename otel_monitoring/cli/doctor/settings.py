"""Check: the settings."""

import re
from collections.abc import Iterator

from otel_monitoring.cli.doctor.findings import Examination, Finding, Level
from otel_monitoring.environment import warned

_NAME = "settings"
_CORRECT = "correct it: the service does not start with this"
_SEPARATOR = re.compile("; (?!did you mean)")


def settings_valid(examination: Examination) -> Iterator[Finding]:
    """Wrong values, variables without effect, and who may read the details."""
    settings = examination.settings
    if settings is None:
        for line in _SEPARATOR.split(examination.settings_error or ""):
            problem, _, meant = line.partition("; ")
            advice = f"{meant} The service does not start with this" if meant else _CORRECT
            yield Finding(_NAME, Level.FAILED, problem, advice)
    else:
        yield Finding(_NAME, Level.OK, "valid")
    for line in warned:
        problem, _, advice = line.partition("; ")
        yield Finding(_NAME, Level.WARNING, problem, advice if advice.startswith("did you") else "correct or remove it")
    if settings is None:
        return
    if settings.file is not None:
        yield Finding(_NAME, Level.OK, f"the configuration file {settings.file.path} is in force")
    if settings.access == "open":
        yield Finding(
            _NAME,
            Level.WARNING,
            "OTEL_MONITORING_ACCESS=open: everybody may read the details and mute alerts",
            "in production unset it and set OTEL_MONITORING_ADMIN_TOKEN",
        )
    elif settings.admin_token is None:
        yield Finding(
            _NAME,
            Level.WARNING,
            "no admin token: the private endpoints answer 403",
            "set OTEL_MONITORING_ADMIN_TOKEN, or pass admin=Depends(...) to MonitoringService",
        )
