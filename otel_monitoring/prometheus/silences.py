"""`Silences`: mutes, open windows and acknowledgements of a service as silences in its Alertmanager."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

from otel_monitoring.alerts.mute import Mute
from otel_monitoring.alerts.notify.channels.alertmanager_alert import label_name
from otel_monitoring.alerts.schedule import Once
from otel_monitoring.alerts.selection import Selection, single
from otel_monitoring.errors import PrometheusError
from otel_monitoring.prometheus.client import Connection, Server
from otel_monitoring.redact import printable
from otel_monitoring.timestamps import rfc3339

_NOBODY = "otel_monitoring"
_NO_REASON = "muted by POST /api/alerts/mutes"
_TEXT_LENGTH = 500
_WINDOW, _ACKNOWLEDGED = "window-", "acknowledged-"
_MARK = re.compile(rf" ?\(((?:{_WINDOW}|{_ACKNOWLEDGED})[0-9a-f]+)\)$")


class Wanted(NamedTuple):
    """A silence that has to be there.

    Attributes:
        mute: What it mutes, until when, who did it and why.
        start: When it begins, in Unix seconds.
        mark: The end of its comment, which says what it belongs to: a planned window, or an acknowledged alert. Empty:
            it is a mute.
    """

    mute: Mute
    start: float
    mark: str = ""

    @classmethod
    def of_window(cls, window: Mute, now: float) -> "Wanted | None":
        """That of a planned window: it begins and ends with its next opening. None: it is never open again.

        Args:
            window: The window.
            now: Unix seconds.
        """
        opening = window.schedule.opening(now) if window.schedule is not None else None
        if opening is None:
            return None
        return cls(replace(window, until=opening.end, schedule=Once(*opening)), opening.start, window.id)

    @classmethod
    def of_acknowledged(cls, incident: str, mute: Mute, start: float) -> "Wanted":
        """That of an alert that somebody takes care of, by its incident."""
        return cls(mute, start, _ACKNOWLEDGED + incident)


class Silence(NamedTuple):
    """A silence of the service.

    Attributes:
        server: Which Alertmanager has it.
        id: Its id there.
        mute: What it mutes; that of a planned window has the opening as its schedule.
        start: When it begins, in Unix seconds.
        mark: See `Wanted`.
    """

    server: int
    id: str
    mute: Mute
    start: float
    mark: str = ""

    @classmethod
    def taken(cls, wanted: Wanted) -> "Silence":
        """One that Alertmanager has taken, and does not list yet."""
        return cls(0, "", wanted.mute, wanted.start, wanted.mark)

    @property
    def acknowledges(self) -> str | None:
        """The incident that it acknowledges; None: it is a mute, or of a planned window."""
        return self.mark.removeprefix(_ACKNOWLEDGED) if self.mark.startswith(_ACKNOWLEDGED) else None

    def is_for(self, wanted: Wanted) -> bool:
        """Whether it is there for the same as `wanted`."""
        return self.mark == wanted.mark if wanted.mark else not self.mark and self.mute.key == wanted.mute.key

    def is_exactly(self, wanted: Wanted) -> bool:
        """Whether it is `wanted`, and ends with it."""
        return self.is_for(wanted) and abs(self.mute.until - wanted.mute.until) < 1

    def serves(self, wanted: Wanted, now: float) -> bool:
        """Whether it is `wanted`, and lasts for more than half of the time that is left at `now`, in Unix seconds."""
        return self.is_for(wanted) and self.mute.until - now > (wanted.mute.until - now) / 2


class Silences:
    """Reads and writes the silences of one service.

    A silence is a mute where it matches the service and a type, a rule or labels, each with one value. That of a person
    in Alertmanager's own page is one, too. Those of planned windows and of acknowledged alerts are told by their mark.

    Args:
        service: `service.name`.
        environment: `deployment.environment.name`, or empty.
    """

    def __init__(self, service: str, environment: str) -> None:
        self._service = service
        self._environment = environment

    async def read(self, servers: Sequence[Server]) -> list[Silence]:
        """The silences in force, and those of windows that open later, of every server that answers.

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
            silences = (self.silence_from(number, one) for one in answer if isinstance(one, dict))
            seen = {one.id for one in found}  # the servers of a cluster have the same ones
            found += [one for one in silences if one is not None and one.id not in seen]
        if failures and len(failures) == len(servers):
            raise failures[0]
        return found

    async def _read(self, connection: Connection) -> list[Any]:
        answer = await connection.ask(
            "GET", "api/v2/silences", parameters=[("filter", f"service={_quoted(self._service)}")]
        )
        return answer if isinstance(answer, list) else []

    async def write(self, servers: Sequence[Server], wanted: Wanted, known: Sequence[Silence]) -> None:
        """Make the silence, or prolong the one that there is: on one server, and on those that share nothing.

        Args:
            servers: The Alertmanagers.
            wanted: The silence.
            known: The silences that were read before.

        Raises:
            PrometheusError: No server has taken it.
        """
        failures: list[PrometheusError] = []
        taken = False
        for number, server in enumerate(servers):
            before = next((one for one in known if one.server == number and one.is_for(wanted)), None)
            body = self.silence_of(wanted if before is None else wanted._replace(start=before.start))
            if before is not None:
                body["id"] = before.id
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
        for silence in silences:
            path = f"api/v2/silence/{silence.id}"
            await servers[silence.server].ask(lambda connection, path=path: connection.ask("DELETE", path))  # type: ignore[misc]

    def silence_of(self, wanted: Wanted) -> dict[str, Any]:
        """`wanted` as Alertmanager's API has it."""
        mute, chosen = wanted.mute, wanted.mute.selection
        labels = {label_name(name): value for name, value in chosen.labels.items()}
        about = {"alert_type": single(chosen.types), "rule": single(chosen.rules), "environment": self._environment}
        matched = {**labels, **{name: value for name, value in about.items() if value}, "service": self._service}
        reason = f"{mute.reason} ({wanted.mark})".strip() if wanted.mark else mute.reason or _NO_REASON
        return {
            "matchers": [
                {"name": name, "value": value, "isRegex": False, "isEqual": True} for name, value in matched.items()
            ],
            "startsAt": rfc3339(wanted.start),
            "endsAt": rfc3339(mute.until),
            "createdBy": mute.author or _NOBODY,
            "comment": reason,
        }

    def silence_from(self, server: int, found: Mapping[str, Any]) -> Silence | None:
        """A silence that Alertmanager lists; None: it is none of this service's, has ended, or is more than a mute.

        Args:
            server: Which Alertmanager lists it.
            found: The silence, as its API has it.
        """
        try:
            state, matchers = found["status"]["state"], found["matchers"]
            if any(one.get("isRegex") or not one.get("isEqual", True) for one in matchers):
                return None
            labels = {str(one["name"]): str(one["value"]) for one in matchers}
            start, until = (_unix(found[key]) for key in ("startsAt", "endsAt"))
        except (LookupError, TypeError, ValueError, AttributeError):
            return None
        comment = printable(str(found.get("comment", "")))
        marked = _MARK.search(comment)
        mark = marked[1] if marked is not None else ""
        if state != "active" and not (state == "pending" and mark):
            return None
        if labels.pop("service", None) != self._service:
            return None
        if labels.pop("environment", self._environment) != self._environment:
            return None
        kind, rule = labels.pop("alert_type", None), labels.pop("rule", None)
        selection = Selection.of([kind] if kind else (), rules=[rule] if rule else (), labels=labels)
        if selection.is_empty and not mark.startswith(_WINDOW):
            return None
        author = printable(str(found.get("createdBy", "")))[:_TEXT_LENGTH]
        reason = (comment[: marked.start()] if marked is not None else comment)[:_TEXT_LENGTH]
        schedule = Once(start, until) if mark.startswith(_WINDOW) else None
        mute = Mute(
            selection, until, "" if author == _NOBODY else author, "" if reason == _NO_REASON else reason, schedule
        )
        return Silence(server, str(found.get("id")), mute, start, mark)


def _quoted(text: str) -> str:
    """A value of a matcher. Alertmanager knows these three escapes; every other sign stands for itself."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _unix(text: object) -> float:
    return datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp()


async def _is_clustered(connection: Connection) -> bool:
    """Whether the server shares its silences with others."""
    answer = await connection.ask("GET", "api/v2/status")
    return isinstance(answer, dict) and (answer.get("cluster") or {}).get("status") != "disabled"
