"""`Settings`: the only reader of the environment and of `.env`.

OpenTelemetry's own variables stand in `exporting.settings`, the documented ones of the channels (`SMTP_SERVER`,
`SLACK_WEBHOOK_URL`, …) in `channel_settings`; the rest begin with `OTEL_MONITORING_`.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_settings import NoDecode, SettingsConfigDict

from otel_monitoring.channel_settings import ChannelSettings, check_web_address
from otel_monitoring.correlation import MAX_KEYS
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.exporting.settings import OtlpSettings

PREFIX = "OTEL_MONITORING_"
_BAGGAGE_KEY = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HOST = re.compile(r"\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|[0-9A-Fa-f:]+")


def _split(value: object) -> object:
    """Comma-separated text as a tuple, surrounding blanks and empty items dropped."""
    return tuple(item.strip() for item in value.split(",") if item.strip()) if isinstance(value, str) else value


class Thresholds(BaseModel):
    """The documented thresholds; each is overridden by `OTEL_MONITORING_THRESHOLD_<NAME>` or by keyword."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    database_response_time_ms: PositiveFloat = 1000.0
    error_rate_percent: Annotated[float, Field(ge=0, le=100)] = 5.0
    cpu_percent: Annotated[float, Field(gt=0, le=100)] = 80.0
    memory_percent: Annotated[float, Field(gt=0, le=100)] = 80.0
    api_response_time_ms: PositiveFloat = 2000.0
    # Not in the document, which gives these two no number.
    event_loop_lag_ms: PositiveFloat = 1000.0
    rejected_requests: Annotated[float, Field(ge=0)] = 50.0


THRESHOLDS: dict[str, float] = Thresholds().model_dump()
"""The documented defaults by name."""


class Settings(ChannelSettings, OtlpSettings):
    """Every setting of the package. Keyword arguments win over the environment, which wins over `.env`.

    Raises:
        ConfigurationError: from `Settings.load`, naming each setting that cannot work.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True, populate_by_name=True, env_ignore_empty=True
    )

    # Endpoints
    admin_token: SecretStr | None = None
    access: Literal["admin", "open"] = "admin"
    prefix: str = "/api"

    # Rhythm, in seconds
    check_interval: PositiveFloat = 30.0
    sample_interval: PositiveFloat = 10.0
    window: PositiveFloat = 300.0
    check_timeout: PositiveFloat = 5.0
    shutdown_timeout: PositiveFloat = 5.0

    # Service
    service_version: str | None = None
    environment: str | None = None

    # Requests
    error_statuses: Annotated[frozenset[int] | None, NoDecode] = None
    """Status codes that count as errors; None: every 5xx."""
    operation_spans: bool = False
    """FastAPI's spans for dependencies, endpoints and serialization: they double the cost of a traced request."""
    capture_query: bool = False
    """Keep the values of `url.query` on spans; otherwise each is replaced."""
    max_endpoints: Annotated[int, Field(ge=1, le=100_000)] = 1000

    # Baggage
    baggage_keys: Annotated[tuple[str, ...], NoDecode, Field(max_length=MAX_KEYS)] = ()
    """Which baggage becomes attributes of spans and log records; from a client's headers, too."""
    baggage_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Hosts that instrumented clients send baggage to, beside private ones; `.example.com`: all below."""

    # Database
    database_uri: SecretStr | None = None
    capture_statement: bool = False
    """Add `db.query.text` to database spans, values replaced, at most `statement_max_length` characters."""
    statement_max_length: Annotated[int, Field(ge=16, le=65_536)] = 1024
    max_collections: Annotated[int, Field(ge=0, le=10_000)] = 100

    # Alerts
    thresholds: Thresholds = Thresholds()
    store: Literal["memory", "sqlite"] = "sqlite"
    state_dir: Path | None = None
    """Where the `sqlite` store keeps its file; None: the platform's state directory."""
    repeat_interval: PositiveFloat = 4 * 3600.0
    """Seconds until an alert that still fires is notified again."""
    public_url: str | None = None
    """Where the service is reached, without `prefix`: what links in notifications begin with."""

    @field_validator("error_statuses", "alert_email_to", "baggage_keys", "baggage_hosts", mode="before")
    @classmethod
    def _split_lists(cls, value: object) -> object:
        return _split(value)

    @field_validator("baggage_keys")
    @classmethod
    def _attribute_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(_BAGGAGE_KEY.fullmatch(key) for key in value):
            raise ValueError("keys are 1 to 64 letters, digits, '.', '_' and '-', separated by commas")
        return tuple(dict.fromkeys(value))

    @field_validator("baggage_hosts")
    @classmethod
    def _host_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(_HOST.fullmatch(host) for host in value):
            raise ValueError("host names, without scheme and port, separated by commas; '.example.com' for all below")
        return tuple(host.lower() for host in value)

    @field_validator("error_statuses")
    @classmethod
    def _known_statuses(cls, value: frozenset[int] | None) -> frozenset[int] | None:
        if value is not None and not all(100 <= status <= 599 for status in value):
            raise ValueError("status codes are numbers from 100 to 599")
        return value

    @field_validator("prefix")
    @classmethod
    def _mountable(cls, value: str) -> str:
        if value and (not value.startswith("/") or "{" in value or "?" in value or "#" in value):
            raise ValueError("it must be empty or a plain path that starts with '/'")
        return value.rstrip("/")

    @field_validator("public_url")
    @classmethod
    def _web_address(cls, value: str | None) -> str | None:
        if value is not None:
            check_web_address(value)
        return value and value.rstrip("/")

    @field_validator("admin_token")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 8:
            raise ValueError("an admin token has at least 8 characters")
        return value

    @classmethod
    def load(cls, **overrides: Any) -> "Settings":
        """Read the settings; keyword arguments that are None count as not given.

        Raises:
            ConfigurationError: one line that names every setting that cannot work and says why, never its value.
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        unknown = sorted(given.keys() - cls.model_fields.keys())
        if unknown:
            raise ConfigurationError(f"{', '.join(unknown)}: no such setting")
        thresholds = _thresholds_from_environment()
        thresholds.update(_as_mapping(given.pop("thresholds", {})))
        if thresholds:
            given["thresholds"] = thresholds
        try:
            return cls(**given)
        except ValidationError as error:
            raise ConfigurationError(_explain(error)) from None


def known_variables() -> frozenset[str]:
    """Every variable of ours, `OTEL_MONITORING_…`, thresholds aside."""
    fields = Settings.model_fields.items()
    return frozenset(PREFIX + name.upper() for name, field in fields if field.validation_alias is None)


def unknown_variables() -> list[str]:
    """Variables that begin like ours and that nobody reads: slips. A threshold of that kind is an error already."""
    ours = {name for name in os.environ if name.startswith(PREFIX) and not name.startswith(f"{PREFIX}THRESHOLD_")}
    return sorted(ours - known_variables())


def _as_mapping(value: "Thresholds | dict[str, float]") -> dict[str, float]:
    return value.model_dump(exclude_unset=True) if isinstance(value, Thresholds) else dict(value)


def _thresholds_from_environment() -> dict[str, Any]:
    prefix = f"{PREFIX}THRESHOLD_"
    return {
        name.removeprefix(prefix).lower(): value
        for name, value in os.environ.items()
        if name.startswith(prefix) and value.strip()
    }


def _environment_name(location: tuple[int | str, ...]) -> str:
    """The name under which users know the setting at `location` of a validation error."""
    field = str(location[0])
    if field == "thresholds" and len(location) > 1:
        return f"{PREFIX}THRESHOLD_{str(location[1]).upper()}"
    info = Settings.model_fields.get(field)
    if info is not None and info.validation_alias is None:
        return PREFIX + field.upper()
    if info is not None and isinstance(info.validation_alias, AliasChoices):
        return str(info.validation_alias.choices[0])
    return field


def _explain(error: ValidationError) -> str:
    """One line for all problems. Pydantic's own text would quote the value, which may be a secret."""
    problems = []
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        message = problem["msg"].removeprefix("Value error, ")
        problems.append(f"{_environment_name(problem['loc'])}: {message[0].lower()}{message[1:]}")
    return "; ".join(problems)
