"""The variables that are read, or set, before any setting is: without importing what reads the settings."""

import os
from typing import Final

_OPT_IN: Final = "OTEL_SEMCONV_STABILITY_OPT_IN"
_DISABLED: Final = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"


def opt_in_to_stable_conventions() -> None:
    """Have the instrumentations emit the stable HTTP and database conventions, unless the user chose otherwise.

    They read `OTEL_SEMCONV_STABILITY_OPT_IN` once in a process: call this before anything is instrumented.
    """
    if not semconv_opt_in():
        os.environ[_OPT_IN] = "http,database"


def semconv_opt_in() -> frozenset[str]:
    """What `OTEL_SEMCONV_STABILITY_OPT_IN` names; empty: nothing, and so ours."""
    return frozenset(_items(_OPT_IN))


def zero_code_disabled() -> bool:
    """Whether `OTEL_PYTHON_DISABLED_INSTRUMENTATIONS` names us, or everybody."""
    return not {"*", "otel_monitoring"}.isdisjoint(_items(_DISABLED))


def disable_instrumentations(*names: str) -> None:
    """Add to `OTEL_PYTHON_DISABLED_INSTRUMENTATIONS`, for the processes started from here."""
    os.environ[_DISABLED] = ",".join(dict.fromkeys((*_items(_DISABLED), *names)))


def _items(variable: str) -> list[str]:
    return [item.strip() for item in os.environ.get(variable, "").split(",") if item.strip()]
