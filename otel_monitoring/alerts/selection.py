"""`Selection`: which alerts a mute, a planned window or a route is about."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import field
from typing import Any, Protocol

from otel_monitoring.alerts.model import AlertSeverity, AlertType, readable_labels
from otel_monitoring.value import Value


class Selectable(Protocol):
    """What a selection looks at: an event, or a saved incident."""

    @property
    def type(self) -> AlertType:
        """The alert type."""

    @property
    def severity(self) -> AlertSeverity:
        """The severity."""

    @property
    def rule(self) -> str:
        """The rule's name; empty for an alert of `send_alert`."""

    @property
    def labels(self) -> Mapping[str, str]:
        """The alert's identity within its type or rule."""


class Selection(Value):
    """Selects the alerts that fit everything that is given; nothing given selects every alert.

    Attributes:
        types: It has one of these types.
        rules: It is of one of the rules with these names.
        severities: It has one of these severities.
        labels: It has all of these labels.
    """

    types: frozenset[AlertType] = frozenset()
    rules: frozenset[str] = frozenset()
    severities: frozenset[AlertSeverity] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        types: Iterable[AlertType | str] = (),
        *,
        rules: Iterable[str] = (),
        severities: Iterable[AlertSeverity | str] = (),
        labels: Mapping[str, str] | None = None,
    ) -> "Selection":
        """The selection with these values; a single text is one value.

        Raises:
            ValueError: A type or severity is none.
        """
        return cls(
            frozenset(map(AlertType, _several(types))),
            frozenset(_several(rules)),
            frozenset(map(AlertSeverity, _several(severities))),
            readable_labels(labels or {}),
        )

    @property
    def is_empty(self) -> bool:
        """Whether it selects every alert."""
        return not (self.types or self.rules or self.severities or self.labels)

    def __call__(self, alert: Selectable) -> bool:
        """Whether `alert` fits."""
        return (
            (not self.types or alert.type in self.types)
            and (not self.rules or alert.rule in self.rules)
            and (not self.severities or alert.severity in self.severities)
            and (
                self.labels.items() <= alert.labels.items()
                or self.labels.items() <= readable_labels(alert.labels).items()
            )
        )

    def encode(self) -> str:
        """The selection as JSON; equal selections have equal texts."""
        found: dict[str, Any] = {
            "types": sorted(kind.value for kind in self.types),
            "rules": sorted(self.rules),
            "severities": sorted(severity.value for severity in self.severities),
            "labels": dict(self.labels),
        }
        return json.dumps({key: value for key, value in found.items() if value}, sort_keys=True, separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> "Selection":
        """Read what `encode` wrote.

        Raises:
            ValueError, TypeError: The text is no selection.
        """
        read = json.loads(text)
        return cls(
            frozenset(map(AlertType, read.get("types", ()))),
            frozenset(read.get("rules", ())),
            frozenset(map(AlertSeverity, read.get("severities", ()))),
            dict(read.get("labels", {})),
        )


def single(values: Collection[str]) -> str | None:
    """The only value, as its plain text; None where there is none, or there are several."""
    return next((str(getattr(value, "value", value)) for value in values), None) if len(values) == 1 else None


def _several(given: Iterable[Any]) -> Iterable[Any]:
    return (given,) if isinstance(given, str) else given
