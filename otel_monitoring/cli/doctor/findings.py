"""The input and output of `doctor`'s checks: `Examination` and `Finding`."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from otel_monitoring.cli.client import ServiceClient
from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.redact import redact_error


class Level(str, Enum):
    """How serious a finding is."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a check.

    Attributes:
        check: The subject, in one or two words.
        level: How serious the result is.
        message: The result.
        advice: What to do about it; None where there is nothing to do.
    """

    check: str
    level: Level
    message: str
    advice: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The finding as `--json` prints it."""
        return {"check": self.check, "level": self.level.value, "message": self.message, "advice": self.advice}


@dataclass(frozen=True, slots=True)
class Examination:
    """The deployment to examine.

    Attributes:
        settings: The settings of this environment; None where they cannot work.
        settings_error: Why the settings cannot work; None where they can.
        database_uri: The URI of the database; None where none is known.
        service: A running service; None where none was named.
        send_test: Whether to send test alerts.
        timeout: Seconds that an answer may take.
    """

    settings: Settings | None
    settings_error: str | None
    database_uri: str | None
    service: ServiceClient | None
    send_test: bool
    timeout: float

    @classmethod
    def of_this_environment(cls, *, database_uri: str | None, send_test: bool, timeout: float) -> "Examination":
        """Read the settings as a service does. There is no running service in the result."""
        settings, error = None, None
        try:
            settings = Settings.load()
        except ConfigurationError as problem:
            error = str(problem)
        if database_uri is None and settings is not None and settings.database_uri is not None:
            database_uri = settings.database_uri.get_secret_value()
        return cls(settings, error, database_uri, None, send_test, timeout)


Examine: TypeAlias = Callable[[Examination], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class DoctorCheck:
    """One check.

    Attributes:
        examine: Yields the findings.
        about: The subject and why it matters, for readers who meet it for the first time.
    """

    examine: Examine
    about: str


def findings_of(examine: Examine, examination: Examination) -> Iterator[Finding]:
    """The findings of one check. An exception becomes a finding, so that the other checks run."""
    try:
        yield from examine(examination)
    except Exception as error:  # noqa: BLE001 - the failure of a check is its result
        reason = redact_error(error)
        yield Finding(examine.__name__.replace("_", " "), Level.FAILED, reason, "this check itself failed: report it")
