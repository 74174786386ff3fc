"""The application that a command is about, by the name a server would be given: `module:attribute`."""

import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from otel_monitoring.alerts.manager import AlertManager
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.monitoring.service import MonitoringService
from otel_monitoring.runtime.current import get_monitoring, service_of


def rules_of(name: str) -> tuple[tuple[Rule, ...], Settings | None]:
    """The rules of an application, and its settings where it says so. Imports its module, as a server does.

    Args:
        name: `module:attribute`; the attribute is a `MonitoringService`, an `AlertManager`, rules, or an application
            that a `MonitoringService` instruments.

    Raises:
        ConfigurationError: There is no such thing, or it has no rules.
    """
    found = _named(name)
    if not isinstance(found, (MonitoringService, AlertManager, Rule, Iterable)):
        found = service_of(found) or get_monitoring() or found
    if isinstance(found, MonitoringService):
        return found.alert_manager.rules, found.settings
    if isinstance(found, AlertManager):
        return found.rules, None
    rules = tuple(found) if isinstance(found, Iterable) else (found,)
    if not rules or not all(isinstance(rule, Rule) for rule in rules):
        raise ConfigurationError(f"{name}: is no MonitoringService, AlertManager or rules, and nothing monitors it")
    return rules, None


def _named(name: str) -> object:
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ConfigurationError(f"{name}: write module:attribute, e.g. main:monitoring")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: object = import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"{name}: there is no module {error.name}") from None
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ConfigurationError(f"{name}: {module} has no {attribute}")
        found = getattr(found, part)
    return found
