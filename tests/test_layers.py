"""Imports point downwards only, and third-party packages stay in the modules that own them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "otel_monitoring"

# A module imports only from lower layers. Within one layer, only from modules of the same folder.
LAYERS: dict[str, int] = {
    "errors": 0,
    "forks": -2,
    "conventions": 0,
    "bounded": 1,
    "correlation": 0,
    "setting_hints": 0,
    "guard": -1,
    "redact": -2,
    "secret_forms": -3,
    "secret_keys": -4,
    "secret_names": -4,
    "secret_numbers": -5,
    "jsonable": 0,
    "environment": -1,
    "seams": 0,
    "logs_api": 1,
    "config": 1,
    "events": 1,
    "watch": 1,
    "health.execution": 1,
    "measure.buckets": 0,
    "measure.snapshot": 1,
    "measure.outcome": 1,
    "measure.groups": 1,
    "measure.window": 1,
    "measure.reader": 2,
    "measure.aggregator": 2,
    "instrument": 2,
    "store": 2,
    "alerts.channels": 2,
    "alerts.checking": 1,
    "alerts.dialect": 2,
    "alerts.matching": 2,
    "alerts.grouping": 2,
    "alerts.expressions": 2,
    "alerts.lifecycle": 2,
    "alerts.rules": 2,
    "exporting.settings": 0,
    "channel_settings": 0,
    "request_settings": 0,
    "exporting": 2,
    "export": 3,
    "health": 3,
    "telemetry": 3,
    "tracing.source": 2,
    "tracing": 6,
    "alerts.manager": 5,
    "alerts": 5,
    "shutdown": 2,
    "worker": 4,
    "collecting": 5,
    "access": 1,
    "announcement": 3,
    "current": 0,
    "dotenv_file": 0,
    "handles": 1,
    "watched": 4,
    "performance": 4,
    "reporting": 6,
    "alerting": 6,
    "assembly": 7,
    "routes": 6,
    "monitoring": 8,
    "auto": 9,
    "cli": 9,
    "": 10,
}

OWNERS: dict[str, set[str]] = {
    "fastapi": {"instrument", "routes", "access"},
    "starlette": {"instrument", "routes"},
    "pymongo": {"instrument", "health.database", "store"},
    "bson": {"instrument", "health.database", "store"},
    "psutil": {"instrument"},
    "httpx": {"alerts.channels", "cli.service", "cli.doctor.clock"},
    "yaml": {"export"},
    "grafana_foundation_sdk": set(),  # contributors have it, users have what it makes
    "aiosmtplib": {"alerts.channels.email"},
    "apprise": {"alerts.channels.apprise"},
    "opentelemetry.sdk": {"measure.reader", "telemetry", "exporting"},
    "opentelemetry.exporter": {"telemetry", "exporting"},
}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield name.removesuffix("__init__").removesuffix("."), ast.parse(path.read_text())


def entry(name: str, table: dict[str, int]) -> str:
    """The most specific entry of `table` that names `name` or a package it is in."""
    parts = name.split(".")
    return next(key for i in range(len(parts), -1, -1) if (key := ".".join(parts[:i])) in table)


def imported(tree: ast.Module) -> Iterator[str]:
    typing_only = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and "TYPE_CHECKING" in ast.unparse(test.test)
        for node in ast.walk(test)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            for alias in node.names:
                inner = f"{module}.{alias.name}".removeprefix("otel_monitoring.")
                yield f"otel_monitoring.{inner}" if inner in MODULES else module


MODULES = dict(modules())


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_downwards(name: str) -> None:
    here = entry(name, LAYERS)
    for target in imported(MODULES[name]):
        if not target.startswith("otel_monitoring."):
            continue
        inner = target.removeprefix("otel_monitoring.")
        there = entry(inner, LAYERS)
        assert LAYERS[there] < LAYERS[here] or there.split(".")[0] == here.split(".")[0], f"{name} imports {inner}"


@pytest.mark.parametrize("name", MODULES)
def test_third_party_packages_stay_with_their_owners(name: str) -> None:
    for target in imported(MODULES[name]):
        for package, owners in OWNERS.items():
            if target == package or target.startswith(package + "."):
                assert any(name == owner or name.startswith(owner + ".") for owner in owners), f"{name}: {target}"


def test_only_config_reads_the_environment() -> None:
    readers = {
        name
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"})
    }
    assert readers <= {"config", "environment"}
