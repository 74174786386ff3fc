"""What a check of `doctor` gets and answers."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from otel_monitoring.cli.client import Service
from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.redact import redact_error


class Level(str, Enum):
    """How a finding is to be taken."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One result.

    Attributes:
        check: What was looked at, in one or two words.
        level: How it is.
        message: What was found.
        advice: What to do about it; None where there is nothing to do.
    """

    check: str
    level: Level
    message: str
    advice: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The finding for programs."""
        return {"check": self.check, "level": self.level.value, "message": self.message, "advice": self.advice}


@dataclass(frozen=True, slots=True)
class Examination:
    """What there is to examine.

    Attributes:
        settings: Those of this environment; None if they cannot work.
        settings_error: Why.
        database_uri: The database, if one is known.
        service: A running service, if one was named.
        send_test: Whether test messages may be sent.
        timeout: Seconds a question may take.
    """

    settings: Settings | None
    settings_error: str | None
    database_uri: str | None
    service: Service | None
    send_test: bool
    timeout: float

    @classmethod
    def of_this_environment(cls, *, database_uri: str | None, send_test: bool, timeout: float) -> "Examination":
        """Read the settings as a service would; no running service is named."""
        settings, error = None, None
        try:
            settings = Settings.load()
        except ConfigurationError as problem:
            error = str(problem)
        if database_uri is None and settings is not None and settings.database_uri is not None:
            database_uri = settings.database_uri.get_secret_value()
        return cls(settings, error, database_uri, None, send_test, timeout)


Look: TypeAlias = Callable[[Examination], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that `doctor` looks at.

    Attributes:
        look: Looks, and finds.
        about: What it is and why it matters, for somebody who meets it for the first time.
    """

    look: Look
    about: str


def contained_findings(look: Look, examination: Examination) -> Iterator[Finding]:
    """What `look` finds; that it fails itself is a finding, and does not stop the others."""
    try:
        yield from look(examination)
    except Exception as error:  # noqa: BLE001 - what goes wrong in an examination is its result
        reason = redact_error(error)
        yield Finding(look.__name__.replace("_", " "), Level.FAILED, reason, "this check itself failed: report it")
