"""`ConfigurationFile`: OpenTelemetry's declarative configuration, the file that `OTEL_CONFIG_FILE` names.

`opentelemetry-configuration` (the extra `config`) reads it. Its part `distribution`, the place that the schema has for
vendors, has our settings under `otel_monitoring`. While a file is in force, the other variables of OpenTelemetry's
specification are ignored, except where the file refers to them as `${NAME}`:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/.
"""

import logging
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

from otel_monitoring.config.hints import did_you_mean
from otel_monitoring.config.otlp import CONFIG_FILE, OWN_SECTION, Signal
from otel_monitoring.environment import MOST_SECONDS, specification_variables, warn_once
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.redact import redact

_PACKAGE: Final = "opentelemetry.configuration"
_READER: Final = "opentelemetry-configuration"
_MESSAGE_LIMIT: Final = 300
SECTIONS: Final[Mapping[Signal, str]] = {
    "traces": "tracer_provider",
    "metrics": "meter_provider",
    "logs": "logger_provider",
}
"""The section of the file that describes each signal."""
_TLS: Final = {
    "ca_file": "CERTIFICATE",
    "key_file": "CLIENT_KEY",
    "cert_file": "CLIENT_CERTIFICATE",
    "insecure": "INSECURE",
}
_NOT_READ: Final[dict[str, tuple[str, ...]]] = {
    "OtlpHttpExporter": ("encoding=json",),
    "OtlpHttpMetricExporter": ("encoding=json",),
    "PeriodicMetricReader": ("max_export_batch_size_development", "producers", "cardinality_limits"),
    "PullMetricReader": ("producers", "cardinality_limits"),
    "ExperimentalPrometheusMetricExporter": ("scope_info_enabled", "resource_constant_labels", "translation_strategy"),
    "View": ("stream.attribute_keys.excluded",),
    "ViewStream": ("aggregation_cardinality_limit",),
    "ExperimentalLoggerConfig": ("minimum_severity", "trace_based"),
    "ExperimentalInstrumentation": ("general",),
}
"""What the schema has and the package does not use, by the class of the model that has it."""


_TIMES: Final = frozenset(("schedule_delay", "interval", "timeout", "export_timeout"))
_MOST_MILLISECONDS: Final = 1000 * MOST_SECONDS
# A reference to a variable, also as the specification spells it beside `${NAME}`; `$$` is a dollar.
_REFERENCE: Final = re.compile(r"\$\$|\$\{(?:env:)?([A-Za-z_]\w*)")


class ConfigurationFile(NamedTuple):
    """A configuration file that could be read.

    Attributes:
        path: Where it is.
        model: What it says, as `opentelemetry.configuration.OpenTelemetryConfiguration`.
        own: Our settings in it, by their names as keywords.
    """

    path: str
    model: Any
    own: Mapping[str, Any]

    @property
    def disabled(self) -> bool:
        """Whether the file switches the SDK off."""
        return bool(self.model.disabled)

    @property
    def records_spans(self) -> bool:
        """Whether the file has a tracer provider."""
        return self.model.tracer_provider is not None and not self.disabled

    @property
    def service_name(self) -> str | None:
        """`service.name` as the file has it; detectors may know another."""
        resource = self.model.resource
        named = [one.value for one in (resource and resource.attributes) or () if one.name == "service.name"]
        return str(named[-1]) if named and named[-1] else None

    def tls_variables(self, signal: Signal) -> dict[str, str]:
        """The `tls` of a signal's exporters, as the environment variables that exporters read when they are made.

        `opentelemetry-configuration` does not pass `tls` on. Empty, with a warning, where the exporters of one signal
        differ in it.
        """
        exporters = _exporters(getattr(self.model, SECTIONS[signal]))
        encrypted = [one.tls for one in exporters if not str(one.endpoint or "http://").startswith("http://")]
        wanted = [{key: value for key in _TLS if (value := getattr(tls, key, None)) is not None} for tls in encrypted]
        if any(one != wanted[0] for one in wanted):
            warn_once(f"{CONFIG_FILE}: {SECTIONS[signal]}: tls: exporters of one signal differ in it; it is ignored")
            return {}
        prefix = f"OTEL_EXPORTER_OTLP_{signal.upper()}_"
        return {f"{prefix}{_TLS[key]}": str(value) for one in wanted[:1] for key, value in one.items()}


def read(path: str) -> ConfigurationFile | None:
    """The file at `path`; None, with one warning that says why, where it cannot be in force.

    Raises:
        ConfigurationError: Our thresholds in it are no mapping.
    """
    if find_spec("opentelemetry") is None or find_spec(_PACKAGE) is None:
        warn_once(f"{CONFIG_FILE}: it needs pip install 'otel-monitoring[config]'; it is ignored")
        return None
    try:
        with _silent():
            from opentelemetry.configuration import load_config_file

            with _as_the_package_reads(path) as readable:
                model = load_config_file(readable)
    except Exception as error:  # noqa: BLE001 - whatever the package raises: the service starts without the file
        warn_once(f"{CONFIG_FILE}: {redact(_reason(error), limit=_MESSAGE_LIMIT)}; it is ignored")
        return None
    own = {k: v for k, v in ((model.distribution or {}).get("otel_monitoring") or {}).items() if v is not None}
    if not isinstance(own.get("thresholds", {}), Mapping):
        raise ConfigurationError(f"{OWN_SECTION}.thresholds: it must be a mapping, as {{cpu_percent: 90}}")
    file = ConfigurationFile(path, model, own)
    _say_what_is_ignored(file)
    for signal in SECTIONS:
        file.tls_variables(signal)
    if large := list(_left_out(model, "")):
        warn_once(
            f"{CONFIG_FILE}: {', '.join(large)}: no thread waits so long, no list is so large; the defaults are used"
        )
    if unused := [*(model.additional_properties or ()), *_unused(model, "")]:
        warn_once(f"{CONFIG_FILE}: {', '.join(unused)}: {_READER} does not use them; they are ignored")
    return file


@contextmanager
def _as_the_package_reads(path: str) -> Iterator[str]:
    """The file with `${NAME}` for `${env:NAME}`, which the package takes for text; where there is none, the file."""
    given = Path(path)
    text = given.read_text(encoding="utf-8") if given.is_file() else ""
    if "${env:" not in text:
        yield path
        return
    from tempfile import NamedTemporaryFile

    with NamedTemporaryFile("w", encoding="utf-8", suffix=given.suffix) as readable:
        readable.write(_REFERENCE.sub(lambda found: f"${{{found[1]}" if found[1] else found[0], text))
        readable.flush()
        yield readable.name


def _left_out(model: Any, place: str) -> Iterator[str]:
    """Leave numbers below `model` out that no thread or list of the SDK can have; yields their places in the file."""
    if isinstance(model, list):
        for number, one in enumerate(model):
            yield from _left_out(one, f"{place}[{number}]")
    if not is_dataclass(model):
        return
    for field in fields(model):
        value = getattr(model, field.name)
        if not isinstance(value, int):
            yield from _left_out(value, _place(place, field.name))
        elif value > (_MOST_MILLISECONDS if field.name in _TIMES else sys.maxsize):
            setattr(model, field.name, None)
            yield _place(place, field.name)


def _unused(model: Any, place: str) -> Iterator[str]:
    """The keys below `model` that have no effect, as their places in the file."""
    if isinstance(model, list):
        for number, one in enumerate(model):
            yield from _unused(one, f"{place}[{number}]")
    if not is_dataclass(model):
        return
    for entry in _NOT_READ.get(type(model).__name__, ()):
        key, _, only = entry.partition("=")
        value: Any = model
        for name in key.split("."):
            value = getattr(value, name, None)
        if value not in (None, []) and only in ("", getattr(value, "value", None)):
            yield _place(place, key)
    for field in fields(model):
        yield from _unused(getattr(model, field.name), _place(place, field.name))


def _exporters(model: Any) -> Iterator[Any]:
    """The OTLP exporters below `model`."""
    if hasattr(model, "tls"):
        yield model
    elif isinstance(model, list):
        for one in model:
            yield from _exporters(one)
    elif is_dataclass(model):
        for field in fields(model):
            yield from _exporters(getattr(model, field.name))


def _place(place: str, key: str) -> str:
    """The place of a key in the file: what is in development has a suffix there that Python's names cannot have."""
    name = f"{key.removesuffix('_development')}/development" if key.endswith("_development") else key
    return f"{place}.{name}" if place else name


def _reason(error: Exception) -> str:
    """Why a file cannot be used, without its values, which may be secrets and which the package's own text quotes."""
    cause: Any = error.__cause__
    if (mark := getattr(cause, "problem_mark", None)) is not None:
        return f"line {mark.line + 1}: {cause.problem}"
    if (path := getattr(cause, "absolute_path", None)) is not None:
        place = ".".join(map(str, path)) or "the file"
        if cause.validator in ("required", "additionalProperties"):  # these texts name keys
            return f"{place}: {cause.message}"
        allowed = str(cause.validator_value) if cause.validator in ("type", "enum") else "as its schema says"
        return f"{place}: it must be {allowed}"
    return " ".join(str(error).split()) or type(error).__name__


def check_names(file: ConfigurationFile, known: Collection[str], elsewhere: Collection[str]) -> None:
    """Check the names of our settings in the file.

    Args:
        file: The file.
        known: Every name that may be there.
        elsewhere: Names of settings that the file says in sections of its own.

    Raises:
        ConfigurationError: There are others; the message names each.
    """
    problems = []
    for name in sorted(file.own.keys() - known):
        why = "the file's own sections say that" if name in elsewhere else "no such setting"
        problems.append(f"{OWN_SECTION}.{name}: {why}{'' if name in elsewhere else did_you_mean(name, known)}")
    if problems:
        raise ConfigurationError("; ".join(problems))


def _say_what_is_ignored(file: ConfigurationFile) -> None:
    text = Path(file.path).read_text(encoding="utf-8", errors="replace")
    used = set(_REFERENCE.findall(text))
    ignored = [name for name in specification_variables() if name not in used]
    if ignored:
        warn_once(f"{', '.join(ignored)}: {CONFIG_FILE} is set and takes their place; they are ignored")


@contextmanager
def _silent() -> Iterator[None]:
    """The package logs what it raises, with tracebacks and values; we say it in one line."""
    logger = logging.getLogger(_PACKAGE)
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
