"""`RuleSet`: the rules of one alert manager: the default ones, less those taken away, and those added."""

from collections.abc import Iterable, Mapping

from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.errors import ConfigurationError


class RuleSet:
    """Rules by name. What was added or removed stays so, whichever default rules come with a service's settings."""

    def __init__(self) -> None:
        self._defaults: tuple[Rule, ...] = ()
        self._added: dict[str, Rule] = {}
        self._removed: set[str] = set()
        self.by_name: Mapping[str, Rule] = {}
        """Every rule, the default ones first; replaced whole by each change, so any thread may read it."""

    def use_defaults(self, rules: Iterable[Rule]) -> None:
        """Take these as the default rules, in place of the former ones."""
        self._defaults = tuple(rules)
        self._renew()

    def add(self, rule: Rule) -> None:
        """Add `rule`, in place of a default one of the same name.

        Raises:
            ConfigurationError: A rule of this name was added before.
        """
        if rule.name in self._added:
            raise ConfigurationError(f"name: a rule {rule.name!r} was added before")
        self._added[rule.name] = rule
        self._removed.discard(rule.name)
        self._renew()

    def remove(self, name: str) -> bool:
        """Take a rule away, default ones too; False when there was none of this name."""
        known = name in self.by_name
        self._added.pop(name, None)
        self._removed.add(name)
        self._renew()
        return known

    def _renew(self) -> None:
        rules = (*self._defaults, *self._added.values())
        self.by_name = {rule.name: rule for rule in rules if rule.name not in self._removed}
