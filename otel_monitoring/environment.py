"""The variables that are read, or set, before any setting is: without importing what reads the settings."""

import logging
import os
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from otel_monitoring.redact import redact

_logger = logging.getLogger("otel_monitoring")

notices: list[str] = []
"""What was said about variables of this process that are wrong, or have no effect; each is `NAME: why`."""

_OPT_IN: Final = "OTEL_SEMCONV_STABILITY_OPT_IN"
_DISABLED: Final = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
_PROPAGATORS: Final = "OTEL_PROPAGATORS"
_PROVIDER: Final = re.compile(r"OTEL_PYTHON_(TRACER|METER|LOGGER)_PROVIDER")
_LIMIT: Final = re.compile(r"OTEL_\w*(?:COUNT|LENGTH)_LIMIT")
_EXPRESSIONS: Final = re.compile(r"OTEL_PYTHON_(?:\w+_)?EXCLUDED_URLS|OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_\w+")


def opt_in_to_stable_conventions() -> None:
    """Have the instrumentations emit the stable HTTP and database conventions, unless the user chose otherwise.

    They read `OTEL_SEMCONV_STABILITY_OPT_IN` once in a process: call this before anything is instrumented.
    """
    if not semconv_opt_in():
        os.environ[_OPT_IN] = "http,database"


_on_stderr = False


def show_announcements() -> None:
    """Have what is announced reach stderr where the application's logging does not show it."""
    global _on_stderr
    _on_stderr = True


def announce(line: str) -> None:
    """Say what people want to know at the start, at the level INFO."""
    _logger.info("%s", line)
    if _on_stderr and not _shows_info():
        with suppress(Exception):  # no stderr, or one that is closed
            sys.stderr.write(f"otel_monitoring: {line}\n")


def _shows_info() -> bool:
    """Whether a handler shows INFO to somebody; those that export are no such handlers."""
    if not _logger.isEnabledFor(logging.INFO):
        return False
    logger: logging.Logger | None = _logger
    while logger is not None:
        for handler in logger.handlers:
            exports = any(kind.__module__.startswith("opentelemetry") for kind in type(handler).__mro__)
            if handler.level <= logging.INFO and not exports and not isinstance(handler, logging.NullHandler):
                return True
        logger = logger.parent if logger.propagate else None
    return False


def notice(line: str) -> None:
    """Say what is wrong with a variable, as a warning, once in a process."""
    if line not in notices:
        notices.append(line)
        _logger.warning("%s", line)


def ignore(name: str, why: str) -> None:
    """Take a variable of OpenTelemetry's out of this process's environment, with a warning.

    The SDK reads its variables by itself, some when it is imported, and raises for one that cannot work. Without the
    variable it takes its default.

    Args:
        name: The variable; one that is not set may come from `.env`.
        why: What is wrong with it, without its value.
    """
    os.environ.pop(name, None)
    notice(f"{name}: {why}; it is ignored")


def ignore_unusable() -> None:
    """Ignore the variables with which OpenTelemetry's modules, or FastAPI's use of them, cannot even be imported."""
    for name, value in list(os.environ.items()):
        if not value.strip() or not name.startswith("OTEL_"):
            continue
        if name == _PROPAGATORS:
            _ignore_missing_propagators()
        elif (provider := _PROVIDER.fullmatch(name)) and not _installed(f"{provider[1].lower()}_provider", value):
            ignore(name, "no such provider is installed")
        elif _LIMIT.fullmatch(name) and not value.strip().isdecimal():
            ignore(name, "it must be a number, 0 or more")
        elif _EXPRESSIONS.fullmatch(name) and not are_expressions(items(value)):
            ignore(name, "it must be regular expressions, separated by commas")


def _ignore_missing_propagators() -> None:
    named = _items_of(_PROPAGATORS)
    present = tuple(name for name in named if name.lower() == "none" or _installed("propagator", name))
    if present == named:
        return
    missing = [name for name in named if name not in present]
    if not present:
        ignore(_PROPAGATORS, f"not installed: {redact(', '.join(missing))}")
        return
    os.environ[_PROPAGATORS] = ",".join(present)
    notice(f"{_PROPAGATORS}: not installed: {redact(', '.join(missing))}; the others are used")


def _installed(kind: str, name: str) -> bool:
    from importlib.metadata import entry_points  # rarely needed, and slow to import

    return bool(entry_points(group=f"opentelemetry_{kind}", name=name.strip()))


def are_expressions(values: Iterable[str]) -> bool:
    """Whether they can be used as OpenTelemetry's instrumentations use them: joined into one."""
    try:
        re.compile("|".join(values))
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def semconv_opt_in() -> frozenset[str]:
    """What `OTEL_SEMCONV_STABILITY_OPT_IN` names; empty: nothing, and so ours."""
    return frozenset(_items_of(_OPT_IN))


def zero_code_disabled() -> bool:
    """Whether `OTEL_PYTHON_DISABLED_INSTRUMENTATIONS` names us, or everybody."""
    return not {"*", "otel_monitoring"}.isdisjoint(_items_of(_DISABLED))


def disable_instrumentations(*names: str) -> None:
    """Add to `OTEL_PYTHON_DISABLED_INSTRUMENTATIONS`, for the processes started from here."""
    os.environ[_DISABLED] = ",".join(dict.fromkeys((*_items_of(_DISABLED), *names)))


def items(text: str) -> tuple[str, ...]:
    """The parts of comma-separated text, without the blanks around them; empty ones are left out."""
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _items_of(variable: str) -> tuple[str, ...]:
    return items(os.environ.get(variable, ""))
