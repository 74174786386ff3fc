"""`RuleSet`: the rules of one alert manager: the default rules and the added ones, without the removed ones."""

from collections.abc import Iterable, Mapping

from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.errors import ConfigurationError


class RuleSet:
    """Rules by name. Additions and removals also hold for default rules that come later, from a service's settings.

    Attributes:
        by_name: All rules, the default rules first; every change replaces the mapping, so any thread may read it.
    """

    def __init__(self) -> None:
        self._defaults: tuple[Rule, ...] = ()
        self._added: dict[str, Rule] = {}
        self._removed: set[str] = set()
        self.by_name: Mapping[str, Rule] = {}

    def use_defaults(self, rules: Iterable[Rule]) -> None:
        """Replace the default rules by `rules`."""
        self._defaults = tuple(rules)
        self._renew()

    def add(self, *rules: Rule) -> None:
        """Add rules; each replaces a default rule of the same name.

        Raises:
            ConfigurationError: A rule of this name was added before; none is added.
        """
        for rule in rules:
            if rule.name in self._added:
                raise ConfigurationError(f"name: a rule {rule.name!r} was added before")
        self._added.update({rule.name: rule for rule in rules})
        self._removed.difference_update(rule.name for rule in rules)
        self._renew()

    def remove(self, name: str) -> bool:
        """Remove the rule called `name`, also a default rule; returns whether there was one."""
        known = name in self.by_name
        self._added.pop(name, None)
        self._removed.add(name)
        self._renew()
        return known

    def _renew(self) -> None:
        rules = (*self._defaults, *self._added.values())
        self.by_name = {rule.name: rule for rule in rules if rule.name not in self._removed}
