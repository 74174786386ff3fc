"""`Settings`: every setting, read from keyword arguments, the environment and `.env`.

The variables that begin with `OTEL_MONITORING_` are here. OpenTelemetry's own are in `otlp` and `http_server`, those of
the alert channels (`SMTP_SERVER`, `SLACK_WEBHOOK_URL`, …) in `channels`.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Set
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from otel_monitoring.baggage import MAX_KEYS
from otel_monitoring.config import configuration_file, dotenv_file, template
from otel_monitoring.config.channels import ChannelSettings, check_web_address
from otel_monitoring.config.configuration_file import ConfigurationFile
from otel_monitoring.config.hints import did_you_mean, number_meant
from otel_monitoring.config.http_server import RequestSettings, without_effect
from otel_monitoring.config.otlp import CHOICES, OtlpSettings
from otel_monitoring.config.prometheus import PrometheusSettings
from otel_monitoring.environment import ignore, ignore_unusable, items, warn_once
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.redact import redact
from otel_monitoring.timestamps import seconds_of

PREFIX = "OTEL_MONITORING_"
_THRESHOLD = f"{PREFIX}THRESHOLD_"
_THRESHOLDS = f"{PREFIX}THRESHOLDS"
_THRESHOLD_KEYWORD = "threshold_"
_MESSAGES = {
    "bool_parsing": "it must be true or false",
    "int_parsing": "it must be a whole number",
    "float_parsing": "it must be a number",
    "path_not_file": "there is no such file",
}
_BLANK = object()
_DAY = 86_400
_TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
_BAGGAGE_KEY = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HOST = re.compile(r"\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|[0-9A-Fa-f:]+")

_Positive = Annotated[FiniteFloat, Field(gt=0)]
_Seconds = Annotated[FiniteFloat, Field(gt=0, le=366 * 86_400)]


def _percentage(given: object) -> object:
    """The percentage of an objective as a number, or `off`."""
    if given is None or given == "off":
        return given
    try:
        number = float(given) if isinstance(given, str | int | float) and not isinstance(given, bool) else 0.0
    except ValueError:
        number = 0.0
    if not 0 < number < 100:
        raise ValueError("it must be a number of percent above 0 and below 100, as 99.9, or off")
    return number


_Objective = Annotated[float | Literal["off"] | None, BeforeValidator(_percentage)]


class Thresholds(BaseModel):
    """The documented thresholds, overridden by `OTEL_MONITORING_THRESHOLD_<NAME>` or the keyword `threshold_<name>`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    database_response_time_ms: _Positive = 1000.0
    error_rate_percent: Annotated[float, Field(ge=0, le=100)] = 5.0
    cpu_percent: Annotated[float, Field(gt=0, le=100)] = 80.0
    memory_percent: Annotated[float, Field(gt=0, le=100)] = 80.0
    api_response_time_ms: _Positive = 2000.0
    # Beyond the documented thresholds.
    event_loop_lag_ms: _Positive = 1000.0
    rejected_requests: Annotated[FiniteFloat, Field(ge=0)] = 50.0
    telemetry_loss_seconds: Annotated[FiniteFloat, Field(ge=0)] = 300.0
    # For single endpoints, by route; others have the thresholds above.
    api_response_time_ms_by_endpoint: Mapping[str, _Positive] = {}
    error_rate_percent_by_endpoint: Mapping[str, Annotated[float, Field(ge=0, le=100)]] = {}

    @field_validator("api_response_time_ms_by_endpoint", "error_rate_percent_by_endpoint", mode="before")
    @classmethod
    def _by_route(cls, value: object) -> object:
        """Texts are as `/api/reports/=10000, /api/search=500`."""
        if not isinstance(value, str):
            return value
        pairs = [item.rpartition("=") for item in items(value)]
        if not all(route.strip() and separator for route, separator, _ in pairs):
            raise ValueError("it must be routes with numbers, as /api/reports/=10000, /api/search=500")
        return {route.strip(): number.strip() for route, _, number in pairs}


_BY_ENDPOINT = frozenset(name for name in Thresholds.model_fields if name.endswith("_by_endpoint"))
THRESHOLDS: dict[str, float] = Thresholds().model_dump(exclude=set(_BY_ENDPOINT))
"""The documented defaults by name."""
_THRESHOLD_NAMES = (tuple(THRESHOLDS), tuple(Thresholds.model_fields))


class Settings(ChannelSettings, OtlpSettings, RequestSettings, PrometheusSettings):
    """Every setting of the package; `Settings.load` reads them.

    Keyword arguments win over the environment, which wins over `.env`, which wins over a configuration file. Where
    there is such a file, it alone decides about what `OtlpSettings` has.
    """

    model_config = ConfigDict(
        extra="ignore", frozen=True, populate_by_name=True, validate_default=True, defer_build=False
    )

    # Endpoints
    admin_token: SecretStr | None = None
    access: Literal["admin", "open"] = "admin"
    prefix: str = "/api"
    page: bool = True
    """Serve the status page."""

    # Intervals and time limits, in seconds
    check_interval: _Seconds = 30.0
    sample_interval: _Seconds = 10.0
    window: _Seconds = 300.0
    check_timeout: _Seconds = 5.0
    shutdown_timeout: _Seconds = 5.0

    # Service
    service_namespace: str | None = None
    service_version: str | None = None
    environment: str | None = None

    # Requests
    error_statuses: frozenset[int] | None = None
    """Status codes that count as errors. None: every 5xx."""
    operation_spans: bool = False
    """Make FastAPI's spans for dependencies, endpoints and serialization; they double the cost of a traced request."""
    capture_query: bool = False
    """Keep the values of `url.query` on spans. False: each value is replaced."""
    max_endpoints: Annotated[int, Field(ge=1, le=100_000)] = 1000

    # Baggage
    baggage_keys: Annotated[tuple[str, ...], Field(max_length=MAX_KEYS)] = ()
    """Baggage that becomes attributes of spans and log records, also when it came with a client's headers."""
    baggage_hosts: tuple[str, ...] = ()
    """Hosts that instrumented HTTP clients send baggage to, beside private ones. `.example.com`: all hosts below it."""

    # Database
    database_uri: SecretStr | None = None
    capture_statement: bool = False
    """Add `db.query.text` to database spans, with values replaced and at most `statement_max_length` characters."""
    statement_max_length: Annotated[int, Field(ge=16, le=65_536)] = 1024
    max_collections: Annotated[int, Field(ge=0, le=10_000)] = 100
    slow_command_ms: _Positive = 100.0
    """From how many milliseconds on a command is slow: `database.routes` shows its shape."""
    explain: bool = False
    """Ask the server for the plans of slow and of new shapes, at most one every second, outside of requests."""
    trace_comments: bool = False
    """Add the trace context to commands as their `comment`, where they have none."""

    # Alerts
    thresholds: Thresholds = Thresholds()
    store: Literal["memory", "sqlite", "mongodb"] = "sqlite"
    store_uri: SecretStr | None = None
    """The database of the `mongodb` store. None: the database that the service has."""
    state_dir: Path | None = None
    """The folder of the `sqlite` store's file, and of that of `mongodb` in outages. None: the platform's."""
    slo_availability: _Objective = None
    """Percent of the requests that are no errors. None: 99.9 in a dry run; `off`: no such objective."""
    slo_latency: _Objective = None
    """Percent of the requests that are faster than `slo_latency_ms`. None: 99 in a dry run; `off`: none."""
    slo_latency_ms: _Positive = 1000.0
    slo_window: str = "30d"
    """How long these objectives' error budgets must last."""
    repeat_interval: _Seconds = 4 * 3600.0
    """Seconds until an alert that still fires is notified again."""
    public_url: str | None = None
    """The service's URL in the links of notifications, without `prefix`."""
    trace_url: str | None = None
    """The template of the link to a trace, with `{trace_id}`. None: alerts name traces without a link."""

    _file: ConfigurationFile | None = PrivateAttr(default=None)

    @property
    def file(self) -> ConfigurationFile | None:
        """The configuration file that is in force."""
        return self._file

    @model_validator(mode="before")
    @classmethod
    def _tidy(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Remove blanks around values, and values that are blank, except a password's; read choices in any case.

        It is one validator for all fields, because the class takes twice as long to build with one for each.
        """
        fields = _fields()
        tidied = {key: _tidied(fields.get(key.lower(), key), value) for key, value in given.items()}
        return {key: value for key, value in tidied.items() if value is not _BLANK}

    @field_validator("error_statuses", "alert_email_to", "baggage_keys", "baggage_hosts", mode="before")
    @classmethod
    def _split_lists(cls, value: object) -> object:
        return items(value) if isinstance(value, str) else value

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

    @field_validator("window")
    @classmethod
    def _has_samples(cls, value: float, info: ValidationInfo) -> float:
        interval = info.data.get("sample_interval", 0.0)
        if value < interval:
            raise ValueError(
                f"{value:g} s are less than {PREFIX}SAMPLE_INTERVAL, which is {interval:g} s: it would hold no sample"
            )
        return value

    @field_validator("slo_window")
    @classmethod
    def _days(cls, value: str) -> str:
        if not _DAY <= (seconds_of(value) or 0.0) <= 30 * _DAY:
            raise ValueError("it must be from 24h to 30d, written like 7d or 36h")
        return value

    @field_validator("database_uri", "store_uri")
    @classmethod
    def _with_scheme(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("mongodb://", "mongodb+srv://")):
            raise ValueError("it must begin with mongodb:// or mongodb+srv://, e.g. mongodb://localhost:27017/shop")
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

    @field_validator("trace_url")
    @classmethod
    def _with_trace_id(cls, value: str | None) -> str | None:
        if value is not None:
            template.check(value, {"trace_id": "0" * 32})
            filled = template.fill(value, {"trace_id": _TRACE_ID})
            check_web_address(filled)
            if _TRACE_ID not in filled:
                raise ValueError("it must have {trace_id}, e.g. https://tempo.example.com/trace/{trace_id}")
        return value

    @field_validator("admin_token")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        token = value.get_secret_value().strip()  # a token that was read from a file may end with a line break
        if len(token) < 8:
            raise ValueError("an admin token has at least 8 characters")
        return SecretStr(token)

    @classmethod
    def load(cls, **overrides: Any) -> "Settings":
        """Read the settings.

        Variables that other programs read too (OpenTelemetry's, and `SMTP_…` where no e-mail is configured) are ignored
        with a warning where their value cannot work. So is a variable `OTEL_MONITORING_…` that no setting has.

        Args:
            overrides: Fields of `Settings`, and `threshold_<name>`. None counts as not given.

        Raises:
            ConfigurationError: Settings cannot work. The message is one line with the name and the reason of each, and
                without their values.
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        thresholds = {name: given.pop(name) for name in tuple(given) if name.startswith(_THRESHOLD_KEYWORD)}
        unknown = sorted(given.keys() - cls.model_fields.keys())
        if unknown:
            raise ConfigurationError(
                "; ".join(f"{name}: no such setting{did_you_mean(name, cls.model_fields)}" for name in unknown)
            )
        ignore_unusable()
        return cls._from_variables(given, thresholds, _with_environment(dotenv_file.variables()))

    @classmethod
    def _from_variables(
        cls, given: dict[str, Any], thresholds_given: Mapping[str, float], variables: Mapping[str, str]
    ) -> "Settings":
        file = configuration_file.read(given.get("config_file") or variables.get(configuration_file.VARIABLE))
        in_file = cls._take_from_file(file, given, variables)
        own: Mapping[str, Any] = file.own if file is not None else {}
        thresholds = {**own.get("thresholds", {}), **_without_prefix(own, _THRESHOLD_KEYWORD)}
        thresholds.update(_together(variables.get(_THRESHOLDS, "{}")))
        thresholds.update(_without_prefix(variables, _THRESHOLD))
        thresholds.update(_as_mapping(given.pop("thresholds", {})))
        thresholds.update(_without_prefix(thresholds_given, _THRESHOLD_KEYWORD))
        if thresholds:
            given["thresholds"] = thresholds
        named = variables.keys() | {_variable_of(name) for name in given}
        for line in _notices(named, variables):
            warn_once(line)
        settings = cls._validated(given, _by_field(variables), named, in_file)
        settings._file = file  # noqa: SLF001 - our own
        return settings

    @classmethod
    def _take_from_file(
        cls, file: ConfigurationFile | None, given: dict[str, Any], variables: Mapping[str, str]
    ) -> frozenset[str]:
        """Add what the file says to `given`; returns the names of our settings that it alone decides about."""
        given.pop("config_file", None)
        theirs = OtlpSettings.model_fields.keys()
        if file is None:
            given["config_file"] = None
            return frozenset()
        single = {_THRESHOLD_KEYWORD + name for name in Thresholds.model_fields}
        configuration_file.check_names(file, (cls.model_fields.keys() - theirs) | single, theirs)
        for name in sorted((given.keys() & theirs) - {"service_name"}):
            warn_once(f"{name}: {configuration_file.VARIABLE} is set and takes its place; it is ignored")
        service_name = file.service_name or given.get("service_name")
        given.update({name: cls.model_fields[name].get_default() for name in theirs})
        given.update(config_file=file.path, service_name=service_name, sdk_disabled=file.disabled)
        own = {
            name: value
            for name, value in file.own.items()
            if name not in given
            and name not in {"thresholds", *single}
            and variables.keys().isdisjoint(_variables_of(name))
        }
        given.update(own)
        return frozenset(own)

    @classmethod
    def _validated(
        cls, given: dict[str, Any], variables: Mapping[str, str], named: Set[str], in_file: frozenset[str]
    ) -> "Settings":
        """Validate; where only foreign variables are wrong, warn and try again with their defaults."""
        try:
            return cls(**{**variables, **given})
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False)
        foreign = {_field_of(problem): problem for problem in problems if _is_foreign(problem, given, named)}
        ours = [problem for problem in problems if _field_of(problem) not in foreign]
        if ours:
            raise ConfigurationError("; ".join(_explain(problem, in_file) for problem in ours)) from None
        for problem in foreign.values():
            name, why = _explain(problem).split(": ", 1)
            if _is_of_opentelemetry(name):
                ignore(name, why)
            else:
                warn_once(f"{name}: {why}; it is ignored")
        defaults = {name: cls.model_fields[name].get_default(call_default_factory=True) for name in foreign}
        return cls._validated({**given, **defaults}, variables, named, in_file)


@cache
def _fields() -> dict[str, str]:
    """Each field by its names in lower case: its own, and those of its variables."""
    return {
        name.lower(): field
        for field, info in Settings.model_fields.items()
        for name in (field, *(getattr(info.validation_alias, "choices", ())))
    }


def _tidied(field: str, value: object) -> object:
    if not isinstance(value, str) or field == "alert_email_password":
        return value
    if value and not value.strip():
        return _BLANK
    any_case = field in ("access", "store", "slo_availability", "slo_latency") or field.endswith(CHOICES)
    return value.strip().lower() if any_case else value.strip()


def known_variables() -> frozenset[str]:
    """Every variable `OTEL_MONITORING_…`, thresholds included."""
    fields = Settings.model_fields.items()
    single = {PREFIX + name.upper() for name, field in fields if field.validation_alias is None}
    return frozenset(single | {_THRESHOLD + name.upper() for name in Thresholds.model_fields})


def settings_in_force(settings: Settings) -> list[tuple[str, str, bool]]:
    """Every setting: its variable, its value as text, whether that is the default. Of a secret: whether it is set."""
    found = []
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        is_default = value == field.get_default(call_default_factory=True)
        if isinstance(value, Thresholds):
            found += [
                (_THRESHOLD + each.upper(), f"{limit:g}", limit == THRESHOLDS[each])
                for each, limit in value.model_dump(exclude=set(_BY_ENDPOINT)).items()
            ]
            of_endpoints = {each: getattr(value, each) for each in sorted(_BY_ENDPOINT)}
            found += [
                (_THRESHOLD + each.upper(), ", ".join(f"{route}={limit:g}" for route, limit in own.items()), not own)
                for each, own in of_endpoints.items()
            ]
        else:
            found.append((_variable_of(name), _shown(value), is_default))
    return sorted(found)


def _shown(value: object) -> str:
    if value is None or value == ():
        return "not set"
    if isinstance(value, SecretStr):
        return "set, not shown"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple | frozenset):
        secret = any(isinstance(each, SecretStr) for each in value)
        return f"{len(value)} set, not shown" if secret else ", ".join(redact(each) for each in sorted(map(str, value)))
    return f"{value:g}" if isinstance(value, float) else redact(value)


def _with_environment(dotenv: Mapping[str, str]) -> dict[str, str]:
    """Every variable with a value; the environment wins over `.env`."""
    variables = {name.upper(): value for name, value in dotenv.items()}
    return {**variables, **{name.upper(): value for name, value in os.environ.items() if value.strip()}}


def _by_field(variables: Mapping[str, str]) -> dict[str, str]:
    """The texts of the fields whose variables are set; of several variables of a field the first counts."""
    found = {}
    for field in Settings.model_fields.keys() - {"thresholds"}:
        text = next((variables[name] for name in _variables_of(field) if name in variables), None)
        if text is not None:
            found[field] = text
    return found


def _together(text: str) -> dict[str, Any]:
    """The thresholds of the variable that has several at once.

    Raises:
        ConfigurationError: It is no JSON object.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ConfigurationError(f'{_THRESHOLDS}: it must be a JSON object, as {{"cpu_percent": 90}}')
    return found


def _as_mapping(value: "Thresholds | dict[str, float]") -> dict[str, float]:
    return value.model_dump(exclude_unset=True) if isinstance(value, Thresholds) else dict(value)


def _without_prefix(named: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Values whose name begins with `prefix`, by the rest of the name in lower case."""
    return {name.removeprefix(prefix).lower(): value for name, value in named.items() if name.startswith(prefix)}


def _variable_of(field: str) -> str:
    """The environment variable of a field."""
    alias = Settings.model_fields[field].validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else PREFIX + field.upper()


def _variables_of(field: str) -> list[str]:
    """Every environment variable of a field; its keyword, if that has a name of its own, is among them."""
    alias = Settings.model_fields[field].validation_alias
    return [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [PREFIX + field.upper()]


def _field_of(problem: ErrorDetails) -> str:
    """The field of a validation error, which has the name of the field or of its variable."""
    name = str(problem["loc"][0])
    return next((field for field in Settings.model_fields if name in (field, _variable_of(field))), name)


def _is_foreign(problem: ErrorDetails, given: Mapping[str, Any], named: Set[str]) -> bool:
    """Whether the wrong value is in a variable that other programs read too and that this service does not need."""
    field = _field_of(problem)
    if field in given:
        return False
    name = _variable_of(field)
    mails = {"SMTP_SERVER", "ALERT_EMAIL_TO"} <= named
    return _is_of_opentelemetry(name) or (name.startswith("SMTP_") and not mails)


def _is_of_opentelemetry(name: str) -> bool:
    return name.startswith("OTEL_") and not name.startswith(PREFIX)


def _explain(problem: ErrorDetails, in_file: frozenset[str] = frozenset()) -> str:
    """One line for a problem, without the value, which may be a secret and which Pydantic's own text quotes."""
    field = _field_of(problem)
    name, why = _variable_of(field), problem["msg"].removeprefix("Value error, ")
    meant = ""
    if field == "thresholds" and len(problem["loc"]) > 1:
        name = field = _THRESHOLD + str(problem["loc"][1]).upper()
        if problem["type"] == "extra_forbidden":
            # A name that is nearly a general one means that, not the one for single endpoints that continues it.
            general, every = ([_THRESHOLD + each.upper() for each in all_of] for all_of in _THRESHOLD_NAMES)
            why, meant = "no such setting", did_you_mean(name, general) or did_you_mean(name, every)
    if problem["type"] == "float_parsing" and not _is_of_opentelemetry(name):
        meant = number_meant(problem["input"], field)
    if field in in_file:
        name = f"{configuration_file.SECTION}.{field}"
    why = _MESSAGES.get(problem["type"], why).replace("Input should be", "it must be")
    return f"{name}: {why[0].lower()}{why[1:]}{meant}"


def _notices(named: Set[str], variables: Mapping[str, str]) -> Iterator[str]:
    """One line for each variable that is set and has no effect, with the name that was probably meant."""
    known = known_variables()
    documented = {_variable_of(name) for name in Settings.model_fields} - known
    for name in sorted(variables.keys() - known - documented):
        if name.startswith(PREFIX) and not name.startswith(_THRESHOLD):  # a wrong threshold is an error
            yield f"{name}: no setting has this name{did_you_mean(name, known) or '; it is ignored'}"
        elif name.startswith(("OTEL_MON", "ALERT_")) and not name.startswith(PREFIX):
            meant = did_you_mean(name, known if name.startswith("OTEL_") else documented)
            if meant:
                yield f"{name}: no setting has this name{meant}"
    yield from without_effect(variables)
    for name, needed, effect in (
        ("SMTP_SERVER", "ALERT_EMAIL_TO", "no alert is mailed"),
        ("ALERT_EMAIL_TO", "SMTP_SERVER", "no alert is mailed"),
        ("ALERT_WEBHOOK_SECRET", "ALERT_WEBHOOK_URL", "nothing is posted"),
        (PREFIX + "STORE_URI", PREFIX + "STORE", "the state is kept in a file: set it to mongodb"),
        (PREFIX + "PROMETHEUS_HEADERS", PREFIX + "PROMETHEUS_URL", "no Prometheus is asked"),
        (PREFIX + "PROMETHEUS_CERTIFICATE", PREFIX + "PROMETHEUS_URL", "no Prometheus is asked"),
    ):
        if name in named and needed not in named:
            yield f"{name}: without {needed} {effect}"
