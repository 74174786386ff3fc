"""The rules of an application, or of a file or module, for commands that do something with them."""

import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from otel_monitoring.alerts.manager import AlertManager
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.alerts.rules.slo import Slo
from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.monitoring.service import MonitoringService
from otel_monitoring.runtime.current_service import get_monitoring, service_of


def rules_of(name: str) -> tuple[tuple[Rule, ...], Settings | None]:
    """The rules of an application, and the settings of its service.

    Args:
        name: `module:attribute`, imported as by a server, or `file.py:attribute`. The attribute is a
            `MonitoringService`, an `AlertManager`, one or more rules or objectives, or an application that a
            `MonitoringService` instruments.

    Returns:
        The rules and the settings; None in place of settings that are not known.

    Raises:
        ConfigurationError: There is no such module or attribute, or it has no rules.
    """
    found = _imported(name)
    if not isinstance(found, (MonitoringService, AlertManager, Rule, Slo, Iterable)):
        found = service_of(found) or get_monitoring() or found
    if isinstance(found, MonitoringService):
        return found.alert_manager.rules, found.settings
    if isinstance(found, AlertManager):
        return found.rules, None
    given = tuple(found) if isinstance(found, Iterable) else (found,)
    rules = tuple(rule for one in given for rule in (one.rules() if isinstance(one, Slo) else (one,)))
    if not rules or not all(isinstance(rule, Rule) for rule in rules):
        raise ConfigurationError(f"{name}: is no MonitoringService, AlertManager or rules, and nothing monitors it")
    return rules, None


def _imported(name: str) -> object:
    module, _, attribute = name.rpartition(":")
    if not module or not attribute:
        raise ConfigurationError(f"{name}: write module:attribute, e.g. main:monitoring")
    found: object = _module(module)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ConfigurationError(f"{name}: {module} has no {attribute}")
        found = getattr(found, part)
    return found


def _module(source: str) -> ModuleType:
    """The module of this name, or that a file `….py` is. Either may import what is in the current folder.

    Raises:
        ConfigurationError: There is none, or it fails.
    """
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return _of_file(Path(source)) if source.endswith(".py") else import_module(source)
    except ConfigurationError:
        raise
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"{source}: there is no module {error.name}") from None
    except Exception as error:
        raise ConfigurationError(f"{source}: {type(error).__name__}: {error}") from error


def rules_in(source: str) -> tuple[Rule, ...]:
    """The rules and those of the objectives that a file or module has under any name, or one of its attributes is.

    Args:
        source: `rules.py`, `shop.rules`, `rules.py:SLOW` or `shop.rules:SLOW`.

    Raises:
        ConfigurationError: There is no such file, module or attribute, it fails, or it has no rules.
    """
    if ":" in source.removesuffix(".py"):
        return rules_of(source)[0]
    found = {rule.name: rule for value in vars(_module(source)).values() for rule in _rules(value)}
    if not found:
        raise ConfigurationError(f"{source}: it has neither a Rule nor a Slo")
    return tuple(found.values())


def _rules(value: object) -> Iterator[Rule]:
    if isinstance(value, Rule):
        yield value
    elif isinstance(value, Slo):
        yield from value.rules()
    elif isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from _rules(each)


def _of_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigurationError(f"{path}: there is no such file")
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"{path}: it is no Python file")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
