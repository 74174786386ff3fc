"""Environment variables that are read or set before the settings are; `config` has all others.

This module imports neither OpenTelemetry nor the settings: it runs before either.
"""

import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from otel_monitoring.redact import redact

_logger = logging.getLogger("otel_monitoring")

warned: list[str] = []
"""Each warning about an environment variable that is wrong or has no effect, as `NAME: why`."""

_OPT_IN: Final = "OTEL_SEMCONV_STABILITY_OPT_IN"
_EXCEPTION_OPT_IN: Final = "OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN"
_DISABLED: Final = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
_SDK_METRICS: Final = "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED"
_PROPAGATORS: Final = "OTEL_PROPAGATORS"
_EXPORTER: Final = re.compile(r"OTEL_(TRACES|METRICS|LOGS)_EXPORTER")
_SAMPLER: Final = "OTEL_TRACES_SAMPLER"
_SAMPLER_ARG: Final = "OTEL_TRACES_SAMPLER_ARG"
_SAMPLERS: Final = frozenset(
    f"{parent}{name}" for parent in ("", "parentbased_") for name in ("always_on", "always_off", "traceidratio")
)
_FORMER_FILE: Final = "OTEL_EXPERIMENTAL_CONFIG_FILE"
_EVERY_TRACE: Final = "1.0"
_EXEMPLARS: Final = "OTEL_METRICS_EXEMPLAR_FILTER"
_RESOURCE: Final = "OTEL_RESOURCE_ATTRIBUTES"
_DETECTORS: Final = "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS"
_SPECIFICATION: Final = re.compile(
    r"OTEL_(?!MONITORING_|PYTHON_|INSTRUMENTATION_|SEMCONV_|CONFIG_FILE$|RESOURCE_ATTRIBUTES_)\w+"
)
"""Variables that a configuration file replaces; those of languages and instrumentations are not the SDK's."""
_PROVIDER: Final = re.compile(r"OTEL_PYTHON_(TRACER|METER|LOGGER)_PROVIDER")
_OTLP_TIMEOUT: Final = re.compile(r"OTEL_EXPORTER_OTLP_(?:\w+_)?TIMEOUT")
_MANY_SECONDS: Final = 1000
MOST_SECONDS: Final = 366 * 86_400
"""A year: a thread cannot wait as long as other languages do with their largest number, which means for ever."""
_LIMIT: Final = re.compile(r"OTEL_\w*(?:COUNT|LENGTH)_LIMIT")
_INSECURE: Final = re.compile(r"OTEL_EXPORTER_OTLP_(?:\w+_)?INSECURE")
_EXPRESSIONS: Final = re.compile(r"OTEL_PYTHON_(?:\w+_)?EXCLUDED_URLS|OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_\w+")


def opt_in_to_stable_conventions() -> None:
    """Set `OTEL_SEMCONV_STABILITY_OPT_IN` to `http,database` (the stable conventions), unless the user has set it.

    OpenTelemetry's instrumentations read it once in a process: call this before anything is instrumented.
    """
    if not semconv_opt_in():
        os.environ[_OPT_IN] = "http,database"


def warn_once(line: str) -> None:
    """Log `line`, which says what is wrong with a variable, as a warning; the same line once in a process."""
    if line not in warned:
        warned.append(line)
        _logger.warning("%s", line)


def ignore(name: str, why: str) -> None:
    """Remove an OpenTelemetry variable from this process's environment, with a warning: the SDK uses its default.

    The SDK reads its variables itself, some at import, and raises for a value that cannot work.

    Args:
        name: The variable. It need not be set: the value may come from `.env`.
        why: What is wrong with the value; the value itself is left out.
    """
    os.environ.pop(name, None)
    warn_once(f"{name}: {why}; it is ignored")


def ignore_unusable() -> None:
    """Ignore each variable whose value makes the import of OpenTelemetry, or of FastAPI's use of it, fail.

    So are values that the SDK ignores without the name of the variable, or says several times.
    """
    variables = {name: value for name, value in os.environ.items() if name.startswith("OTEL_")}
    for name in [name for name, value in variables.items() if not value.strip()]:
        del os.environ[name], variables[name]  # not set, as for the settings: the SDK would take the blanks
    for name, value in variables.items():
        if name == _PROPAGATORS:
            _ignore_missing(name, value, "propagator", "none|tracecontext|baggage")
        elif exporter := _EXPORTER.fullmatch(name):
            _ignore_missing(name, value, f"{exporter[1].lower()}_exporter", "none|otlp|otlp_proto_.*")
        elif name == _SAMPLER:
            os.environ[name] = value.strip()
            _ignore_missing_sampler(value.strip().lower())
        elif name == _EXEMPLARS:
            os.environ[name] = value.strip().lower()  # the SDK knows its values in lower case only
        elif name == _FORMER_FILE:
            ignore(name, "its name is OTEL_CONFIG_FILE now")
        elif name == _RESOURCE:
            _ignore_what_is_no_pair(value)
        elif _OTLP_TIMEOUT.fullmatch(name) and _is_whole(value) and _MANY_SECONDS <= int(value) <= MOST_SECONDS:
            warn_once(f"{name}: the SDK reads it as seconds, where the specification has milliseconds")
        elif (provider := _PROVIDER.fullmatch(name)) and not _installed(f"{provider[1].lower()}_provider", value):
            ignore(name, "no such provider is installed")
        elif _LIMIT.fullmatch(name) and not _is_whole(value):
            ignore(name, f"it must be a number from 0 to {sys.maxsize}")
        elif _INSECURE.fullmatch(name) and value.strip().lower() not in ("true", "false"):
            ignore(name, "it must be true or false")
        elif name == _EXCEPTION_OPT_IN and not any(exception_signals()[1:]):
            ignore(name, "it must be logs or logs/dup")
        elif _EXPRESSIONS.fullmatch(name) and not are_expressions(items(value)):
            ignore(name, "it must be regular expressions, separated by commas")


def _is_whole(value: str) -> bool:
    """Whether a number of things is one that the SDK can read and that its lists can have."""
    try:
        return value.strip().isdecimal() and int(value) <= sys.maxsize
    except ValueError:
        return False


def _ignore_missing(name: str, value: str, kind: str, always: str) -> None:
    """Ignore what is not installed of a list of entry points `opentelemetry_{kind}`.

    Names that are `always` there are not looked up, which takes long.
    """
    present: list[str] = []
    missing: list[str] = []
    for one in dict.fromkeys(items(value)):
        spelt = one.lower()  # OpenTelemetry knows the spelling of the entry points only
        if re.fullmatch(always, spelt) or _installed(kind, spelt):
            present.append(spelt)
        else:
            (present if _installed(kind, one) else missing).append(one)
    what = redact(", ".join(missing))
    if not present:
        ignore(name, f"not installed: {what}" if missing else "it names nothing")
    elif [one.strip() for one in value.split(",")] != present:  # nor can OpenTelemetry be imported with an empty item
        os.environ[name] = ",".join(present)
    if missing and present:
        warn_once(f"{name}: not installed: {what}; the others are used")


def _ignore_missing_sampler(name: str) -> None:
    """Ignore a sampler that is not there, and a share that is none: the SDK warns of it even where there is none."""
    if name not in _SAMPLERS and not _installed("traces_sampler", os.environ[_SAMPLER]):
        ignore(_SAMPLER, "no such sampler is installed")
    if not name.endswith("traceidratio"):
        return
    share = os.environ.get(_SAMPLER_ARG, "").strip() or _EVERY_TRACE
    try:
        fits = 0.0 <= float(share) <= 1.0
    except ValueError:
        fits = False
    os.environ[_SAMPLER_ARG] = share if fits else _EVERY_TRACE
    if not fits:
        warn_once(f"{_SAMPLER_ARG}: it must be a number from 0 to 1; it is ignored")


def _ignore_what_is_no_pair(value: str) -> None:
    given = items(value)
    pairs = [pair for pair in given if pair.partition("=")[1] and pair.partition("=")[0].strip()]
    if len(pairs) < len(value.split(",")):  # the SDK warns of empty items, too
        os.environ[_RESOURCE] = ",".join(pairs)
    if len(pairs) < len(given):
        warn_once(f"{_RESOURCE}: it must be name=value pairs separated by commas; what is none is ignored")


def _installed(kind: str, name: str) -> bool:
    from importlib.metadata import entry_points  # slow to import, and rarely needed

    return bool(entry_points(group=f"opentelemetry_{kind}", name=name.strip()))


def are_expressions(values: Iterable[str]) -> bool:
    """Whether `values` joined by `|` are one regular expression, as OpenTelemetry's instrumentations use them."""
    try:
        re.compile("|".join(values))
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def semconv_opt_in() -> frozenset[str]:
    """The items of `OTEL_SEMCONV_STABILITY_OPT_IN`; empty where the user has not set it."""
    return frozenset(_items_of(_OPT_IN))


def exception_signals() -> tuple[bool, bool]:
    """Whether exceptions are span events, and whether they are log events: `OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN`."""
    chosen = [item.lower() for item in _items_of(_EXCEPTION_OPT_IN)]
    both = "logs/dup" in chosen
    logs = both or "logs" in chosen
    return both or not logs, logs


def sdk_counts_spans() -> bool:
    """Whether `OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED` has the SDK count the spans that it makes."""
    return os.environ.get(_SDK_METRICS, "").strip().lower() == "true"


def resource_detectors() -> tuple[str, ...]:
    """The names in `OTEL_EXPERIMENTAL_RESOURCE_DETECTORS`, each once; `*` stands for every installed detector."""
    return tuple(dict.fromkeys(_items_of(_DETECTORS)))


def specification_variables() -> list[str]:
    """The variables of OpenTelemetry's specification that have a value, `OTEL_CONFIG_FILE` itself aside."""
    return sorted(name for name, value in os.environ.items() if value.strip() and _SPECIFICATION.fullmatch(name))


def without_specification_variables() -> AbstractContextManager[None]:
    """Inside the `with` block, the environment lacks OpenTelemetry's variables: the SDK's parts use their defaults."""
    return _without(specification_variables())


def without_resource_variables() -> AbstractContextManager[None]:
    """Inside the `with` block, the environment lacks the variables by which a resource of the SDK is made."""
    return _without([_DETECTORS, _RESOURCE])


@contextmanager
def _without(names: Iterable[str]) -> Iterator[None]:
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


@contextmanager
def with_variables(variables: Mapping[str, str]) -> Iterator[None]:
    """Inside the `with` block, the environment has these variables; afterwards it is as before."""
    before = {name: os.environ[name] for name in variables if name in os.environ}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)
        os.environ.update(before)


@contextmanager
def sdk_components_measured(variables: Mapping[str, str] | None = None) -> Iterator[None]:
    """Inside the `with` block, processors, exporters and readers that are made measure themselves (`otel.sdk.…`).

    They also find `variables` in the environment.

    Each asks the environment when it is made, as does each tracer, whose three measurements of every span would cost
    more than the span: so it is not switched on for the whole process.
    """
    with with_variables({**(variables or {}), _SDK_METRICS: "true"}):
        yield


def zero_code_disabled() -> bool:
    """Whether `OTEL_PYTHON_DISABLED_INSTRUMENTATIONS` contains `otel_monitoring` or `*`."""
    return not {"*", "otel_monitoring"}.isdisjoint(_items_of(_DISABLED))


def disable_instrumentations(*names: str) -> None:
    """Add `names` to `OTEL_PYTHON_DISABLED_INSTRUMENTATIONS` of this process and of those it starts."""
    os.environ[_DISABLED] = ",".join(dict.fromkeys((*_items_of(_DISABLED), *names)))


def items(text: str) -> tuple[str, ...]:
    """The items of comma-separated text, stripped of blanks; empty items are left out."""
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _items_of(variable: str) -> tuple[str, ...]:
    return items(os.environ.get(variable, ""))
