"""`ConfigurationFile`: OpenTelemetry's declarative configuration, the file that `OTEL_CONFIG_FILE` names.

`opentelemetry-configuration` (the extra `config`) reads it. Its part `distribution`, the place that the schema has for
vendors, has our settings under `otel_monitoring`. While a file is in force, the other variables of OpenTelemetry's
specification are ignored, except where the file refers to them as `${NAME}`:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/.
"""

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from otel_monitoring.config.hints import did_you_mean
from otel_monitoring.environment import specification_variables, warn_once
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.redact import redact

VARIABLE: Final = "OTEL_CONFIG_FILE"
SECTION: Final = f"{VARIABLE}: distribution.otel_monitoring"
_PACKAGE: Final = "opentelemetry.configuration"
_MESSAGE_LIMIT: Final = 300


@dataclass(frozen=True, slots=True)
class ConfigurationFile:
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


def read(path: str | None) -> ConfigurationFile | None:
    """The file at `path`; None, with one warning that says why, where it cannot be in force.

    Raises:
        ConfigurationError: Our thresholds in it are no mapping.
    """
    if not path:
        return None
    if find_spec("opentelemetry") is None or find_spec(_PACKAGE) is None:
        warn_once(f"{VARIABLE}: it needs pip install 'otel-monitoring[config]'; it is ignored")
        return None
    try:
        with _silent():
            from opentelemetry.configuration import load_config_file

            model = load_config_file(path)
    except Exception as error:  # noqa: BLE001 - whatever the package raises: the service starts without the file
        warn_once(f"{VARIABLE}: {redact(_reason(error), limit=_MESSAGE_LIMIT)}; it is ignored")
        return None
    own = {k: v for k, v in ((model.distribution or {}).get("otel_monitoring") or {}).items() if v is not None}
    if not isinstance(own.get("thresholds", {}), Mapping):
        raise ConfigurationError(f"{SECTION}.thresholds: it must be a mapping, as {{cpu_percent: 90}}")
    file = ConfigurationFile(path, model, own)
    _say_what_is_ignored(file)
    return file


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
        problems.append(f"{SECTION}.{name}: {why}{'' if name in elsewhere else did_you_mean(name, known)}")
    if problems:
        raise ConfigurationError("; ".join(problems))


def _say_what_is_ignored(file: ConfigurationFile) -> None:
    text = Path(file.path).read_text(encoding="utf-8", errors="replace")
    ignored = [name for name in specification_variables() if f"${{{name}" not in text]
    if ignored:
        warn_once(f"{', '.join(ignored)}: {VARIABLE} is set and takes their place; they are ignored")


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
