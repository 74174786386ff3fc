"""`AlertEngine`: another engine that evaluates the rules about the whole service, notifies and keeps the mutes."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from otel_monitoring.alerts.evaluation.incident import Incident
from otel_monitoring.alerts.model import Acknowledgement
from otel_monitoring.alerts.mute import Mute
from otel_monitoring.alerts.rules.rule import Rule


class AlertEngine(Protocol):
    """Prometheus and its Alertmanager. Methods may be called from any thread; none raises."""

    @property
    def evaluates(self) -> bool:
        """Whether it evaluates in place of this service's processes; they do while it does not answer."""

    async def refresh_rules(self, rules: Sequence[Rule]) -> None:
        """Bring incidents and results up to date for an answer."""

    def incidents(self, rules: Mapping[str, Rule]) -> Sequence[Incident]:
        """The pending and firing alerts of these rules."""

    def results(self, rules: Sequence[Rule]) -> Mapping[str, Mapping[str, Any]]:
        """The latest `values` and the `error` of each rule, by its name: see `overview.results`."""

    def mutes(self) -> Sequence[Mute]:
        """The mutes that it keeps; those with a schedule are openings of planned windows."""

    def acknowledged(self) -> Mapping[str, Acknowledgement]:
        """The acknowledged alerts that it does not repeat, by incident."""

    def take_mutes(self) -> None:
        """Take over the mutes of the service's own store, and do what its windows and acknowledgements ask for.

        Waits for it where that blocks no event loop.
        """

    def unmute(self, name: str) -> bool:
        """End its mute with this id, or all its mutes of this type or rule; returns whether there was one."""

    def state(self) -> dict[str, Any]:
        """The part of the diagnostics about it."""
