"""The registry of the package's own names (`docs/registry`), and the tables that are made of it."""

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from tests.pages import ROOT

SOURCE = ROOT / "docs/registry/otel_monitoring.yaml"
MANIFEST = ROOT / "docs/registry/registry_manifest.yaml"
PAGE = ROOT / "docs/metrics.md"
KINDS = {"counter": "counter", "updowncounter": "up-down counter", "gauge": "gauge", "histogram": "histogram"}
"""Weaver's instruments, as the page names them."""
_PLACE = re.compile(r"(<!-- registry: (\w+) -->\n).*?(<!-- /registry -->)", re.DOTALL)


@dataclass(frozen=True)
class Signal:
    """A metric or a log event.

    Attributes:
        name: Its name.
        kind: The kind of instrument, as the page names it; `event` of a log event.
        unit: The unit; empty of a log event.
        attributes: What it may have.
        meaning: One line.
    """

    name: str
    kind: str
    unit: str
    attributes: tuple[str, ...]
    meaning: str


@dataclass(frozen=True)
class Attribute:
    """An attribute of the package's own.

    Attributes:
        name: Its name; of a template what the names begin with.
        template: Whether `.` and a further name follow.
        kind: The type of its values.
        values: Its values, or examples of them.
        meaning: One line.
    """

    name: str
    template: bool
    kind: str
    values: tuple[str, ...]
    meaning: str


@cache
def groups() -> list[dict[str, Any]]:
    """The groups as they are written."""
    found: list[dict[str, Any]] = yaml.safe_load(SOURCE.read_text())["groups"]
    return found


def attributes() -> dict[str, Attribute]:
    """The package's own attributes, by name."""
    defined = [one for group in groups() for one in group.get("attributes", ()) if "id" in one]
    return {one.name: one for one in map(_attribute, defined)}


def _attribute(written: dict[str, Any]) -> Attribute:
    name, kind, meaning = written["id"], written["type"], written["brief"]
    if isinstance(kind, dict):
        values = tuple(f"`{one['value']}`" for one in kind["members"])
        return Attribute(name, False, "string", values, meaning)
    examples = tuple(f"e.g. `{one}`" for one in written.get("examples", ())[:1])
    template = re.fullmatch(r"template\[(.+)\]", kind)
    return Attribute(name, template is not None, template[1] if template else kind, examples, meaning)


def metrics() -> dict[str, Signal]:
    """The package's own metrics, by name."""
    return {
        one["metric_name"]: Signal(
            one["metric_name"], KINDS[one["instrument"]], one["unit"], _refs(one), one["brief"].strip()
        )
        for one in groups()
        if one["type"] == "metric"
    }


def events() -> dict[str, Signal]:
    """The package's own log events, by name."""
    return {
        one["name"]: Signal(one["name"], "event", "", _refs(one), one["brief"].strip())
        for one in groups()
        if one["type"] == "event"
    }


def _refs(group: dict[str, Any]) -> tuple[str, ...]:
    return tuple(one["ref"] for one in group.get("attributes", ()))


def page() -> str:
    """`docs/metrics.md` with the tables of today's registry."""
    tables = {"metrics": _metric_rows, "attributes": _attribute_rows, "events": _event_rows}
    return _PLACE.sub(lambda found: "\n".join((found[1], *tables[found[2]](), "", found[3])), PAGE.read_text())


def _metric_rows() -> list[str]:
    rows = [
        f"| `{one.name}` | {one.kind} | {one.unit} | {_listed(one)} | {one.meaning} |" for one in metrics().values()
    ]
    return ["| metric | kind | unit | attributes | meaning |", "|---|---|---|---|---|", *rows]


def _attribute_rows() -> list[str]:
    rows = [
        f"| `{one.name}{'.<name>' if one.template else ''}` | {one.kind} | {', '.join(one.values)} | {one.meaning} |"
        for one in attributes().values()
    ]
    return ["| attribute | type | values | meaning |", "|---|---|---|---|", *rows]


def _event_rows() -> list[str]:
    rows = [f"| `{one.name}` | {_listed(one)} | {one.meaning} |" for one in events().values()]
    return ["| log event | attributes | meaning |", "|---|---|---|", *rows]


def _listed(signal: Signal) -> str:
    return ", ".join(f"`{name}`" for name in signal.attributes)
