"""`Silences`: the mutes of a service as silences in its Alertmanager."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from otel_monitoring.alerts.mute import Mute
from otel_monitoring.alerts.notify.channels.alertmanager import label_name
from otel_monitoring.alerts.selection import Selection, single
from otel_monitoring.errors import PrometheusError
from otel_monitoring.prometheus.client import Connection, Server
from otel_monitoring.redact import printable
from otel_monitoring.timestamps import rfc3339

_NOBODY = "otel_monitoring"
_NO_REASON = "muted by POST /api/alerts/mutes"
_TEXT_LENGTH = 500


class Silence(NamedTuple):
    """A silence that is a mute.

    Attributes:
        server: Which Alertmanager has it.
        id: Its id there.
        mute: The mute.
    """

    server: int
    id: str
    mute: Mute


class Silences:
    """Reads and writes the silences of one service.

    A silence is a mute where it matches the service and a type, a rule or labels, each with one value. That of a person
    in Alertmanager's own page is one, too.

    Args:
        service: `service.name`.
        environment: `deployment.environment.name`, or empty.
    """

    def __init__(self, service: str, environment: str) -> None:
        self._service = service
        self._environment = environment

    async def read(self, servers: Sequence[Server]) -> list[Silence]:
        """The silences in force, of every server that answers.

        Raises:
            PrometheusError: No server answers.
        """
        found: list[Silence] = []
        failures: list[PrometheusError] = []
        for number, server in enumerate(servers):
            try:
                answer = await server.ask(self._read)
            except PrometheusError as error:
                failures.append(error)
                continue
            mutes = ((one, self.mute_of(one)) for one in answer if isinstance(one, dict))
            seen = {one.id for one in found}  # the servers of a cluster have the same ones
            found += [
                Silence(number, str(one.get("id")), mute)
                for one, mute in mutes
                if mute is not None and one.get("id") not in seen
            ]
        if failures and len(failures) == len(servers):
            raise failures[0]
        return found

    async def _read(self, connection: Connection) -> list[Any]:
        answer = await connection.ask(
            "GET", "api/v2/silences", parameters=[("filter", f"service={json.dumps(self._service)}")]
        )
        return answer if isinstance(answer, list) else []

    async def write(self, servers: Sequence[Server], mute: Mute, now: float, known: Sequence[Silence]) -> None:
        """Make a silence of `mute`, or prolong the one that there is: on one server, and on those that share nothing.

        Args:
            servers: The Alertmanagers.
            mute: The mute.
            now: Unix seconds.
            known: The silences that were read before.

        Raises:
            PrometheusError: No server has taken it.
        """
        failures: list[PrometheusError] = []
        taken = False
        for number, server in enumerate(servers):
            before = next((one.id for one in known if one.server == number and one.mute.key == mute.key), None)
            body = {**self.silence_of(mute, now), **({"id": before} if before is not None else {})}
            try:
                if taken and await server.ask(_is_clustered):
                    continue
                await server.ask(lambda connection, body=body: connection.ask("POST", "api/v2/silences", body=body))  # type: ignore[misc]
                taken = True
            except PrometheusError as error:
                failures.append(error)
        if not taken:
            raise failures[0] if failures else PrometheusError("Alertmanager: there is none")

    async def end(self, servers: Sequence[Server], silences: Sequence[Silence]) -> None:
        """End `silences`.

        Raises:
            PrometheusError: A server refused.
        """
        for server, identifier, _ in silences:
            path = f"api/v2/silence/{identifier}"
            await servers[server].ask(lambda connection, path=path: connection.ask("DELETE", path))  # type: ignore[misc]

    def silence_of(self, mute: Mute, now: float) -> dict[str, Any]:
        """`mute` as Alertmanager's API has it."""
        chosen = mute.selection
        labels = {label_name(name): value for name, value in chosen.labels.items()}
        about = {"alert_type": single(chosen.types), "rule": single(chosen.rules), "environment": self._environment}
        wanted = {**labels, **{name: value for name, value in about.items() if value}, "service": self._service}
        return {
            "matchers": [
                {"name": name, "value": value, "isRegex": False, "isEqual": True} for name, value in wanted.items()
            ],
            "startsAt": rfc3339(now),
            "endsAt": rfc3339(mute.until),
            "createdBy": mute.author or _NOBODY,
            "comment": mute.reason or _NO_REASON,
        }

    def mute_of(self, silence: Mapping[str, Any]) -> Mute | None:
        """The mute that a silence is; None: it is none of this service's, it has ended, or it is more than a mute."""
        try:
            if silence["status"]["state"] != "active":
                return None
            matchers = silence["matchers"]
            if any(one.get("isRegex") or not one.get("isEqual", True) for one in matchers):
                return None
            labels = {str(one["name"]): str(one["value"]) for one in matchers}
            until = datetime.fromisoformat(str(silence["endsAt"]).replace("Z", "+00:00")).timestamp()
        except (LookupError, TypeError, ValueError, AttributeError):
            return None
        if labels.pop("service", None) != self._service:
            return None
        if labels.pop("environment", self._environment) != self._environment:
            return None
        author, reason = (printable(str(silence.get(key, "")))[:_TEXT_LENGTH] for key in ("createdBy", "comment"))
        kind, rule = labels.pop("alert_type", None), labels.pop("rule", None)
        selection = Selection.of([kind] if kind else (), rules=[rule] if rule else (), labels=labels)
        if selection.is_empty:
            return None
        return Mute(selection, until, "" if author == _NOBODY else author, "" if reason == _NO_REASON else reason)


async def _is_clustered(connection: Connection) -> bool:
    """Whether the server shares its silences with others."""
    answer = await connection.ask("GET", "api/v2/status")
    return isinstance(answer, dict) and (answer.get("cluster") or {}).get("status") != "disabled"
