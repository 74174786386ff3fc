"""What the semantic conventions name, read from the installed `opentelemetry-semantic-conventions`."""

import ast
import inspect
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from itertools import pairwise
from pkgutil import iter_modules
from typing import Any

from opentelemetry.metrics import Meter, NoOpMeter
from opentelemetry.semconv import attributes as stable
from opentelemetry.semconv._incubating import attributes as incubating
from opentelemetry.semconv._incubating import metrics as incubating_metrics

_TEMPLATE = "_TEMPLATE"


@cache
def attributes() -> frozenset[str]:
    """The attributes that are not deprecated; of a template what the names begin with, and a dot."""
    return frozenset(name for package in (stable, incubating) for name in _names(package))


def names_attribute(name: str) -> bool:
    """Whether the conventions have an attribute of this name."""
    return name in attributes() or any(known.endswith(".") and name.startswith(known) for known in attributes())


def _names(package: Any) -> Iterator[str]:
    for module in iter_modules(package.__path__, f"{package.__name__}."):
        body = ast.parse(inspect.getsource(import_module(module.name))).body
        for constant, text in pairwise(body):
            if not isinstance(constant, ast.AnnAssign) or not isinstance(constant.value, ast.Constant):
                continue
            meaning = text.value.value if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) else ""
            if not str(meaning).strip().startswith("Deprecated:"):
                template = isinstance(constant.target, ast.Name) and constant.target.id.endswith(_TEMPLATE)
                name = str(constant.value.value)
                yield f"{name}." if template else name


class _Noting(NoOpMeter):
    """Notes the instruments that are made."""

    def __init__(self) -> None:
        super().__init__("conventions")
        self.made: dict[str, tuple[str, str]] = {}

    def note(self, kind: str, name: str, *args: Any, **options: Any) -> None:
        self.made[name] = kind, options.get("unit", "")


_KINDS = {
    "create_counter": "counter",
    "create_observable_counter": "counter",
    "create_up_down_counter": "up-down counter",
    "create_observable_up_down_counter": "up-down counter",
    "create_gauge": "gauge",
    "create_observable_gauge": "gauge",
    "create_histogram": "histogram",
}


@cache
def metrics() -> dict[str, tuple[str, str]]:
    """Kind and unit of each metric of the conventions."""
    meter = _Noting()
    for method, kind in _KINDS.items():
        setattr(meter, method, lambda *args, _kind=kind, **options: meter.note(_kind, *_name(args, options), **options))
    for module in iter_modules(incubating_metrics.__path__, f"{incubating_metrics.__name__}."):
        for name, create in vars(import_module(module.name)).items():
            if name.startswith("create_"):
                _call(create, meter)
    return meter.made


def _name(args: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, ...]:
    return args or (options.pop("name"),)


def _call(create: Any, meter: Meter) -> None:
    """Call what makes an instrument; an observable one wants callbacks."""
    wants_callbacks = len(inspect.signature(create).parameters) > 1
    create(meter, []) if wants_callbacks else create(meter)
