"""`Route`: which alerts go to a channel, and after how long without an acknowledgement."""

import math
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import field

from otel_monitoring.alerts.model import AlertSeverity, AlertType
from otel_monitoring.alerts.selection import Selection
from otel_monitoring.config.hints import did_you_mean
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.timestamps import seconds_of
from otel_monitoring.value import Value

ROUTES_VARIABLE = "ALERT_ROUTES"


class Route(Value):
    """Alerts that go to a channel: those that fit everything that is given.

    A channel with routes gets what one of them selects; a channel without routes gets every alert. A single text is
    one value.

    Args:
        channel: The name of the channel, e.g. `email`.
        severities: They have one of these severities, e.g. `critical`.
        types: They have one of these types.
        rules: They are of one of the rules with these names.
        labels: They have all of these labels.
        after: They go to the channel when they were notified this many seconds ago, and nobody has acknowledged them.

    Raises:
        ConfigurationError: A field is invalid; the message begins with its name.
    """

    channel: str
    severities: Iterable[AlertSeverity | str] = ()
    types: Iterable[AlertType | str] = ()
    rules: Iterable[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    after: float = 0.0
    selection: Selection = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Check every field."""
        if not self.channel:
            raise ConfigurationError("channel: must be the name of a channel")
        after: object = self.after
        if not isinstance(after, int | float) or isinstance(after, bool) or not 0 <= after < math.inf:
            raise ConfigurationError("after: must be a number of seconds from 0 on")
        for name, given, one in (("severities", self.severities, AlertSeverity), ("types", self.types, AlertType)):
            try:
                Selection.of(**{name: given})  # type: ignore[arg-type]
            except ValueError as error:
                known = ", ".join(choice.value for choice in one)
                raise ConfigurationError(f"{name}: {error}: there are {known}") from None
        made = Selection.of(self.types, rules=self.rules, severities=self.severities, labels=self.labels)
        object.__setattr__(self, "selection", made)


def routes_of(text: str) -> tuple[Route, ...]:
    """The routes of a text as `email severity=critical|error; slack team=checkout after=15m`.

    Routes are separated by `;` or line breaks. The first word of each is the channel, every further one is
    `severity=`, `type=`, `rule=`, `after=` or `label=`, with alternatives separated by `|`.

    Raises:
        ConfigurationError: It has another form; the message begins with `ALERT_ROUTES`.
    """
    parts = [part.strip() for part in re.split(r"[;\n]", text)]
    return tuple(_route(part) for part in parts if part)


def check_channels(routes: Iterable[Route], channels: Iterable[str]) -> None:
    """Check that there is a channel for each of `routes`.

    Raises:
        ConfigurationError: There is none.
    """
    known = sorted(channels)
    for route in routes:
        if route.channel not in known:
            meant = did_you_mean(route.channel, known) or f": there are {', '.join(known) or 'none'}"
            raise ConfigurationError(f"{ROUTES_VARIABLE}: there is no channel {route.channel}{meant}")


def doubts(routes: Iterable[Route], types: Collection[str], rules: Collection[str]) -> Iterator[str]:
    """What is probably misspelled in `routes`: a channel whose routes select nothing is silent.

    Args:
        routes: The routes.
        types: The names of the known types.
        rules: The names of the known rules.
    """
    for route in routes:
        named = (
            ("type", {kind.value for kind in route.selection.types}, types),
            ("rule", route.selection.rules, rules),
        )
        for what, given, known in named:
            for name in sorted(set(given).difference(known)):
                if meant := did_you_mean(name, known):
                    yield f"{ROUTES_VARIABLE}: {route.channel}: there is no {what} {name}{meant}"


def _route(text: str) -> Route:
    try:
        channel, *words = shlex.split(text)
    except ValueError as error:
        raise ConfigurationError(f"{ROUTES_VARIABLE}: {error}") from None
    given: dict[str, list[str]] = {"severity": [], "type": [], "rule": []}
    labels, after = {}, 0.0
    for word in words:
        name, separator, value = word.partition("=")
        if not name or not separator or not value:
            raise ConfigurationError(f"{ROUTES_VARIABLE}: {channel}: words are as severity=critical or team=checkout")
        if name in given:
            given[name] += value.split("|")
        elif name == "after":
            if (seconds := seconds_of(value)) is None:
                raise ConfigurationError(f"{ROUTES_VARIABLE}: {channel}: after must be as 90, 15m or 2h")
            after = seconds
        else:
            labels[name] = value
    try:
        return Route(channel, given["severity"], given["type"], given["rule"], labels, after)
    except ConfigurationError as error:
        raise ConfigurationError(f"{ROUTES_VARIABLE}: {channel}: {error}") from None
