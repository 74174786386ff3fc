"""`Settings`: every setting, read from keyword arguments, the environment and `.env`.

The variables that begin with `OTEL_MONITORING_` are here. OpenTelemetry's own are in `otlp` and `http_server`, those of
the alert channels (`SMTP_SERVER`, `SLACK_WEBHOOK_URL`, …) in `channels`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Set
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, cast

from pydantic import SecretStr

from otel_monitoring.baggage import MAX_KEYS
from otel_monitoring.config import dotenv_file, template
from otel_monitoring.config.channels import ChannelSettings
from otel_monitoring.config.hints import did_you_mean
from otel_monitoring.config.http_server import RequestSettings, without_effect
from otel_monitoring.config.otlp import CONFIG_FILE, OWN_SECTION, OtlpSettings
from otel_monitoring.config.prometheus import PrometheusSettings
from otel_monitoring.config.setting import PREFIX, Section, check_names, setting
from otel_monitoring.config.values import (
    Step,
    boolean,
    choice,
    each,
    number,
    path,
    secret,
    text,
    texts,
    web_address,
    whole,
)
from otel_monitoring.environment import ignore, ignore_unusable, items, warn_once
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.redact import redact, redact_name
from otel_monitoring.timestamps import seconds_of

if TYPE_CHECKING:
    from otel_monitoring.config.configuration_file import ConfigurationFile

Access = Literal["admin", "open"]
StoreKind = Literal["memory", "sqlite", "mongodb"]
Objective = float | Literal["off"] | None

_THRESHOLD: Final = f"{PREFIX}THRESHOLD_"
_THRESHOLDS: Final = f"{PREFIX}THRESHOLDS"
_THRESHOLD_KEYWORD: Final = "threshold_"
_NO_MAPPING: Final = "it must be a mapping, as {'cpu_percent': 90}"
_BY_ENDPOINT: Final = "_by_endpoint"
_DAY: Final = 86_400
_TRACE_ID: Final = "0af7651916cd43dd8448eb211c80319c"
_BAGGAGE_KEY: Final = r"[A-Za-z0-9._-]{1,64}"
_HOST: Final = r"\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|[0-9A-Fa-f:]+"

_SECONDS = partial(number, above=0, most=366 * _DAY, unit="seconds")
_MILLISECONDS = partial(number, above=0, unit="milliseconds")
_SHARE = partial(number, least=0, most=100, unit="percent")
_USED_SHARE = partial(number, above=0, most=100, unit="percent")


def _by_route(limit: Step) -> Step:
    """Limits by route, also as the text `/api/reports/=10000, /api/search=500`."""

    def step(given: object) -> dict[str, float]:
        if isinstance(given, str):
            pairs = [item.rpartition("=") for item in items(given)]
            given = {route.strip(): value.strip() for route, _, value in pairs}
        if not isinstance(given, Mapping) or not all(isinstance(route, str) and route for route in given):
            raise ValueError("it must be routes with numbers, as /api/reports/=10000, /api/search=500")
        return {route: limit(value) for route, value in given.items()}

    return step


def _of_threshold(name: str) -> str:
    return _THRESHOLD + name.upper()


class Thresholds(Section, variable=_of_threshold):
    """The documented thresholds, overridden by `OTEL_MONITORING_THRESHOLD_<NAME>` or the keyword `threshold_<name>`."""

    database_response_time_ms: float = setting(1000.0, _MILLISECONDS)
    error_rate_percent: float = setting(5.0, _SHARE)
    cpu_percent: float = setting(80.0, _USED_SHARE)
    memory_percent: float = setting(80.0, _USED_SHARE)
    api_response_time_ms: float = setting(2000.0, _MILLISECONDS)
    # Beyond the documented thresholds.
    event_loop_lag_ms: float = setting(1000.0, _MILLISECONDS)
    rejected_requests: float = setting(50.0, partial(number, least=0, unit=""))
    telemetry_loss_seconds: float = setting(300.0, partial(number, least=0, unit="seconds"))
    # For single endpoints, by route; others have the thresholds above.
    api_response_time_ms_by_endpoint: Mapping[str, float] = setting({}, _by_route(_MILLISECONDS))
    error_rate_percent_by_endpoint: Mapping[str, float] = setting({}, _by_route(_SHARE))


THRESHOLDS: dict[str, float] = {
    name: one.default for name, one in Thresholds.fields.items() if not name.endswith(_BY_ENDPOINT)
}
"""The documented defaults by name."""


def _thresholds(given: object) -> Thresholds:
    if isinstance(given, Thresholds):
        return given
    if not isinstance(given, Mapping):
        raise ValueError(_NO_MAPPING)  # noqa: TRY004 - as for every wrong value
    return Thresholds(**{str(name): value for name, value in given.items()})


def _long_enough(token: str) -> str:
    token = token.strip()  # a token that was read from a file may end with a line break
    if len(token) < 8:
        raise ValueError("an admin token has at least 8 characters")
    return token


def _mountable(value: str) -> str:
    if value and (not value.startswith("/") or "{" in value or "?" in value or "#" in value):
        raise ValueError("it must be empty or a plain path that starts with '/'")
    return value.rstrip("/")


def _has_samples(value: float, others: Mapping[str, float]) -> float:
    interval = others.get("sample_interval", 0.0)
    if value < interval:
        raise ValueError(
            f"{value:g} s are less than {PREFIX}SAMPLE_INTERVAL, which is {interval:g} s: it would hold no sample"
        )
    return value


def _known_statuses(values: tuple[int, ...]) -> frozenset[int]:
    if not all(100 <= status <= 599 for status in values):
        raise ValueError("status codes are numbers from 100 to 599")
    return frozenset(values)


def _attribute_names(values: tuple[str, ...]) -> tuple[str, ...]:
    keys = tuple(dict.fromkeys(values))
    if not all(re.fullmatch(_BAGGAGE_KEY, key) for key in keys):
        raise ValueError("keys are 1 to 64 letters, digits, '.', '_' and '-', separated by commas")
    if len(keys) > MAX_KEYS:
        raise ValueError(f"it must have at most {MAX_KEYS} items")
    return keys


def _host_names(values: tuple[str, ...]) -> tuple[str, ...]:
    if not all(re.fullmatch(_HOST, host) for host in values):
        raise ValueError("host names, without scheme and port, separated by commas; '.example.com' for all below")
    return tuple(host.lower() for host in values)


def _of_mongodb(uri: str) -> str:
    if not uri.startswith(("mongodb://", "mongodb+srv://")):
        raise ValueError("it must begin with mongodb:// or mongodb+srv://, e.g. mongodb://localhost:27017/shop")
    return uri


def _percentage(given: object) -> float | str:
    """The percentage of an objective as a number, or `off`."""
    if isinstance(given, str) and given.lower() == "off":
        return "off"
    try:
        found = number(given)
    except ValueError:
        found = 0.0
    if not 0 < found < 100:
        raise ValueError("it must be a number of percent above 0 and below 100, as 99.9, or off")
    return found


def _days(value: str) -> str:
    if not _DAY <= (seconds_of(value) or 0.0) <= 30 * _DAY:
        raise ValueError("it must be from 24h to 30d, written like 7d or 36h")
    return value


def _without_slash(url: str) -> str:
    return url.rstrip("/")


def _with_trace_id(value: str) -> str:
    template.check(value, {"trace_id": "0" * 32})
    filled = web_address(template.fill(value, {"trace_id": _TRACE_ID}))
    if _TRACE_ID not in filled:
        raise ValueError("it must have {trace_id}, e.g. https://tempo.example.com/trace/{trace_id}")
    return value


class Settings(ChannelSettings, OtlpSettings, RequestSettings, PrometheusSettings):
    """Every setting of the package; `Settings.load` reads them.

    Keyword arguments win over the environment, which wins over `.env`, which wins over a configuration file. Where
    there is such a file, it alone decides about what `OtlpSettings` has.
    """

    # Endpoints
    admin_token: SecretStr | None = setting(None, secret(_long_enough))
    access: Access = setting("admin", choice(Access))
    prefix: str = setting("/api", text, _mountable)
    page: bool = setting(True, boolean)
    """Serve the status page."""

    # Intervals and time limits, in seconds
    check_interval: float = setting(30.0, _SECONDS)
    sample_interval: float = setting(10.0, _SECONDS)
    window: float = setting(300.0, _SECONDS, beside=_has_samples)
    check_timeout: float = setting(5.0, _SECONDS)
    shutdown_timeout: float = setting(5.0, _SECONDS)

    # Service
    service_namespace: str | None = setting(None, text)
    service_version: str | None = setting(None, text)
    environment: str | None = setting(None, text)

    # Requests
    error_statuses: frozenset[int] | None = setting(None, each(whole), _known_statuses)
    """Status codes that count as errors. None: every 5xx."""
    operation_spans: bool = setting(False, boolean)
    """Make FastAPI's spans for dependencies, endpoints and serialization; they double the cost of a traced request."""
    capture_query: bool = setting(False, boolean)
    """Keep the values of `url.query` on spans. False: each value is replaced."""
    max_endpoints: int = setting(1000, partial(whole, least=1, most=100_000))

    # Baggage
    baggage_keys: tuple[str, ...] = setting((), texts, _attribute_names)
    """Baggage that becomes attributes of spans and log records, also when it came with a client's headers."""
    baggage_hosts: tuple[str, ...] = setting((), texts, _host_names)
    """Hosts that instrumented HTTP clients send baggage to, beside private ones. `.example.com`: all hosts below it."""

    # Database
    database_uri: SecretStr | None = setting(None, secret(_of_mongodb))
    capture_statement: bool = setting(False, boolean)
    """Add `db.query.text` to database spans, with values replaced and at most `statement_max_length` characters."""
    statement_max_length: int = setting(1024, partial(whole, least=16, most=65_536))
    max_collections: int = setting(100, partial(whole, least=0, most=10_000))
    slow_command_ms: float = setting(100.0, _MILLISECONDS)
    """From how many milliseconds on a command is slow: `database.routes` shows its shape."""
    explain: bool = setting(False, boolean)
    """Ask the server for the plans of slow and of new shapes, at most one every second, outside of requests."""
    trace_comments: bool = setting(False, boolean)
    """Add the trace context to commands as their `comment`, where they have none."""

    # Alerts
    thresholds: Thresholds = setting(Thresholds(), _thresholds)
    store: StoreKind = setting("sqlite", choice(StoreKind))
    store_uri: SecretStr | None = setting(None, secret(_of_mongodb))
    """The database of the `mongodb` store. None: the database that the service has."""
    state_dir: Path | None = setting(None, path)
    """The folder of the `sqlite` store's file, and of that of `mongodb` in outages. None: the platform's."""
    slo_availability: Objective = setting(None, _percentage)
    """Percent of the requests that are no errors. None: 99.9 in a dry run; `off`: no such objective."""
    slo_latency: Objective = setting(None, _percentage)
    """Percent of the requests that are faster than `slo_latency_ms`. None: 99 in a dry run; `off`: none."""
    slo_latency_ms: float = setting(1000.0, _MILLISECONDS)
    slo_window: str = setting("30d", text, _days)
    """How long these objectives' error budgets must last."""
    repeat_interval: float = setting(4 * 3600.0, _SECONDS)
    """Seconds until an alert that still fires is notified again."""
    public_url: str | None = setting(None, text, web_address, _without_slash)
    """The service's URL in the links of notifications, without `prefix`."""
    trace_url: str | None = setting(None, text, _with_trace_id)
    """The template of the link to a trace, with `{trace_id}`. None: alerts name traces without a link."""

    _file = cast("ConfigurationFile | None", None)

    @property
    def file(self) -> ConfigurationFile | None:
        """The configuration file that is in force."""
        return self._file

    @classmethod
    def load(cls, **overrides: Any) -> Settings:
        """Read the settings.

        Variables that other programs read too (OpenTelemetry's, and `SMTP_…` where no e-mail is configured) are ignored
        with a warning where their value cannot work. So is a variable `OTEL_MONITORING_…` that no setting has.

        Args:
            overrides: Fields of `Settings`, and `threshold_<name>`. None counts as not given.

        Raises:
            ConfigurationError: Settings cannot work. The message is one line with the name and the reason of each, and
                without their values.
        """
        keywords = {name: value for name, value in overrides.items() if value is not None}
        check_names([name for name in keywords if not name.startswith(_THRESHOLD_KEYWORD)], cls.fields)
        ignore_unusable()
        variables = _with_environment(dotenv_file.variables())
        file = _file_at(_path_of_file(keywords, variables))
        limits = _limits(file, variables, keywords)
        sources = _sources(file, variables, keywords)
        for line in _notices(_named(file, variables, keywords), variables):
            warn_once(line)
        settings = cls.__new__(cls)
        vars(settings).update(_values(sources, limits), _file=file)
        return settings


class _Source(NamedTuple):
    """What is given for a setting.

    Attributes:
        value: The value.
        name: What messages call it: its variable, or its place in the configuration file.
        foreign: Whether it may be meant for other programs: then it is ignored where it is wrong.
    """

    value: Any
    name: str
    foreign: bool = False


def _path_of_file(keywords: Mapping[str, Any], variables: Mapping[str, str]) -> str | None:
    values, wrong = OtlpSettings.read({"config_file": keywords.get("config_file") or variables.get(CONFIG_FILE)})
    for why in wrong.values():
        raise ConfigurationError(f"{CONFIG_FILE}: {why}")
    found: str | None = values["config_file"]
    return found


def _file_at(path: str | None) -> ConfigurationFile | None:
    if not path:
        return None
    from otel_monitoring.config.configuration_file import read  # few services have one

    return read(path)


def _limits(
    file: ConfigurationFile | None, variables: Mapping[str, str], keywords: Mapping[str, Any]
) -> dict[str, _Source]:
    """The thresholds that are given, by their names."""
    own: Mapping[str, Any] = file.own if file is not None else {}
    layers = (
        (f"{OWN_SECTION}.thresholds.", own.get("thresholds", {})),
        (f"{OWN_SECTION}.{_THRESHOLD_KEYWORD}", _without_prefix(own, _THRESHOLD_KEYWORD)),
        (_THRESHOLD, _together(variables.get(_THRESHOLDS, "{}"))),
        (_THRESHOLD, _without_prefix(variables, _THRESHOLD)),
        (_THRESHOLD, _as_mapping(keywords.get("thresholds", {}))),
        (_THRESHOLD, _without_prefix(keywords, _THRESHOLD_KEYWORD)),
    )
    return {
        str(name): _Source(value, prefix + (str(name).upper() if prefix == _THRESHOLD else str(name)))
        for prefix, layer in layers
        for name, value in layer.items()
        if value is not None
    }


def _sources(
    file: ConfigurationFile | None, variables: Mapping[str, str], keywords: Mapping[str, Any]
) -> dict[str, _Source]:
    """The settings that are given, by their names, without the thresholds."""
    found = _of_opentelemetry(file, keywords) if file is not None else {}
    own: Mapping[str, Any] = file.own if file is not None else {}
    done = {"thresholds", "config_file", *(OtlpSettings.fields if file is not None else ())}
    named = _named(file, variables, keywords)
    for name in (name for name in Settings.fields if name not in done):
        variable = next((one for one in Settings.fields[name].variables if one in variables), None)
        if name in keywords:
            found[name] = _Source(keywords[name], _variable_of(name))
        elif variable is not None:
            found[name] = _Source(variables[variable], variable, _is_foreign(variable, named))
        elif name in own:
            found[name] = _Source(own[name], f"{OWN_SECTION}.{name}")
    return found


def _of_opentelemetry(file: ConfigurationFile, keywords: Mapping[str, Any]) -> dict[str, _Source]:
    """What a configuration file alone decides about."""
    from otel_monitoring.config.configuration_file import check_names as check_names_in_file

    theirs = OtlpSettings.fields.keys()
    single = {_THRESHOLD_KEYWORD + name for name in Thresholds.fields}
    check_names_in_file(file, (Settings.fields.keys() - theirs) | single, theirs)
    for name in sorted((keywords.keys() & theirs) - {"service_name", "config_file"}):
        warn_once(f"{name}: {CONFIG_FILE} is set and takes its place; it is ignored")
    said = {
        "config_file": file.path,
        "service_name": file.service_name or keywords.get("service_name"),
        "sdk_disabled": file.disabled,
    }
    return {name: _Source(value, _variable_of(name)) for name, value in said.items()}


def _named(file: ConfigurationFile | None, variables: Mapping[str, str], keywords: Mapping[str, Any]) -> Set[str]:
    """The variables that are set, and those of the settings that are given elsewhere."""
    given = {*keywords, *(file.own if file is not None else ())}
    return variables.keys() | {_variable_of(name) for name in given & Settings.fields.keys()}


def _values(sources: Mapping[str, _Source], limits: Mapping[str, _Source]) -> dict[str, Any]:
    """The values of all settings. What is foreign and wrong is ignored with a warning.

    Raises:
        ConfigurationError: Something else is wrong.
    """
    values, wrong = Settings.read({name: one.value for name, one in sources.items()})
    ours = {name: why for name, why in wrong.items() if name not in sources or not sources[name].foreign}
    lines = [f"{sources[name].name if name in sources else _variable_of(name)}: {why}" for name, why in ours.items()]
    if lines := [*lines, *_wrong_limits(limits)]:
        raise ConfigurationError("; ".join(lines))
    for name, why in wrong.items():
        variable = sources[name].name
        if _is_of_opentelemetry(variable):
            ignore(variable, why)
        else:
            warn_once(f"{variable}: {why}; it is ignored")
        values[name] = Settings.fields[name].default
    if limits:
        values["thresholds"] = Thresholds(**{name: one.value for name, one in limits.items()})
    return values


def _wrong_limits(limits: Mapping[str, _Source]) -> Iterator[str]:
    """One line for each threshold that cannot be used."""
    for name in sorted(limits.keys() - Thresholds.fields.keys()):
        shown = limits[name].name
        spelt = _of_threshold if shown.startswith(_THRESHOLD) else str
        # A name that is nearly a general one means that, not the one for single endpoints that continues it.
        general, every = ([spelt(each) for each in all_of] for all_of in (THRESHOLDS, Thresholds.fields))
        meant = did_you_mean(spelt(name), general) or did_you_mean(spelt(name), every)
        yield f"{redact_name(shown)}: no such setting{meant}"
    for name, why in Thresholds.read({name: one.value for name, one in limits.items()}).wrong.items():
        yield f"{limits[name].name}: {why}"


def known_variables() -> frozenset[str]:
    """Every variable `OTEL_MONITORING_…`, thresholds included."""
    every = (*Settings.fields.values(), *Thresholds.fields.values())
    return frozenset(name for one in every for name in one.variables if name.startswith(PREFIX))


def settings_in_force(settings: Settings) -> list[tuple[str, str, bool]]:
    """Every setting: its variable, its value as text, whether that is the default. Of a secret: whether it is set."""
    return sorted(
        (one.variables[0], _shown(getattr(section, name)), getattr(section, name) == one.default)
        for section in (settings, settings.thresholds)
        for name, one in section.fields.items()
        if name != "thresholds"
    )


def _shown(value: object) -> str:
    if value is None or value == ():
        return "not set"
    if isinstance(value, SecretStr):
        return "set, not shown"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Mapping):
        return ", ".join(f"{route}={limit:g}" for route, limit in value.items())
    if isinstance(value, tuple | frozenset):
        secret = any(isinstance(each, SecretStr) for each in value)
        return f"{len(value)} set, not shown" if secret else ", ".join(redact(each) for each in sorted(map(str, value)))
    return f"{value:g}" if isinstance(value, float) else redact(value)


def _with_environment(dotenv: Mapping[str, str]) -> dict[str, str]:
    """Every variable with a value; the environment wins over `.env`."""
    variables = {name.upper(): value for name, value in dotenv.items()}
    return {**variables, **{name.upper(): value for name, value in os.environ.items() if value.strip()}}


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


def _as_mapping(given: object) -> Mapping[str, Any]:
    """The thresholds of the keyword `thresholds`.

    Raises:
        ConfigurationError: It is no mapping.
    """
    if isinstance(given, Thresholds):
        return given.given()
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{_THRESHOLDS}: {_NO_MAPPING}")
    return given


def _without_prefix(named: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Values whose name begins with `prefix`, by the rest of the name in lower case."""
    return {name.removeprefix(prefix).lower(): value for name, value in named.items() if name.startswith(prefix)}


def _variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return Settings.fields[name].variables[0]


def _is_foreign(variable: str, named: Set[str]) -> bool:
    """Whether other programs read this variable, too, and this service does not need it."""
    mails = {"SMTP_SERVER", "ALERT_EMAIL_TO"} <= named
    return _is_of_opentelemetry(variable) or (variable.startswith("SMTP_") and not mails)


def _is_of_opentelemetry(variable: str) -> bool:
    return variable.startswith("OTEL_") and not variable.startswith(PREFIX)


def _notices(named: Set[str], variables: Mapping[str, str]) -> Iterator[str]:
    """One line for each variable that is set and has no effect, with the name that was probably meant."""
    known = known_variables()
    documented = {_variable_of(name) for name in Settings.fields} - known
    for name in sorted(variables.keys() - known - documented):
        if name.startswith(PREFIX) and not name.startswith(_THRESHOLD):  # a wrong threshold is an error
            yield f"{redact_name(name)}: no setting has this name{did_you_mean(name, known) or '; it is ignored'}"
        elif name.startswith(("OTEL_MON", "ALERT_")) and not name.startswith(PREFIX):
            meant = did_you_mean(name, known if name.startswith("OTEL_") else documented)
            if meant:
                yield f"{redact_name(name)}: no setting has this name{meant}"
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
