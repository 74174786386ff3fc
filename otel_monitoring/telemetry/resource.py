"""`detected`: attributes of the resource that describe where a service runs; detectors that others wrote may hang."""

import sys
import threading
import time
from collections.abc import Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from otel_monitoring.environment import resource_detectors, warn_once
from otel_monitoring.forks import renewed
from otel_monitoring.redact import redact_error
from otel_monitoring.telemetry.platform_attributes import Attributes, platform_attributes, process_attributes

_GROUP: Final = "opentelemetry_resource_detector"
_VARIABLE: Final = "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS"
_BUILT_IN: Final = frozenset({"otel", "service_instance"})
"""The SDK's own: `Telemetry` reads the variables and makes the instance id itself."""
_NOT_THEIRS: Final = frozenset({"service.instance.id"})
"""Detectors for virtual machines name the machine here, the same for every worker on it."""
_PATIENCE_SECONDS = 2.0
"""How long all detectors together may take."""

_importing = renewed(sys.modules[__name__], "_importing", threading.Lock)
"""Detectors of one package import each other: at the same time, Python would find a deadlock of its import locks."""
_kept: dict[str, dict[str, Any]] = {}
"""What a detector found once and for all, or nothing because it failed, by its name; forked children have it too."""


def detected() -> dict[str, Any]:
    """Attributes of host, operating system, process, container and pod, and what the named detectors found.

    The detectors named in `OTEL_EXPERIMENTAL_RESOURCE_DETECTORS` run at the same time. One that raises, or takes longer
    than two seconds, is left out with a warning and is not asked again.
    """
    return {**_of_the_platform(), **process_attributes(), **_of_detectors(_names())}


@cache
def _of_the_platform() -> Attributes:
    return platform_attributes()


def _names() -> tuple[str, ...]:
    named = resource_detectors()
    if "*" in named:
        every = {found.name for found in entry_points(group=_GROUP)}
        place = named.index("*")
        named = (*named[:place], *sorted(every.difference(named)), *named[place + 1 :])
    return tuple(name for name in named if name not in _BUILT_IN)


def _of_detectors(names: Sequence[str]) -> dict[str, Any]:
    """What the detectors found; later ones win."""
    asked = {name: _Question(name) for name in names if name not in _kept}
    for question in asked.values():
        question.start()
    deadline = time.monotonic() + _PATIENCE_SECONDS
    found: dict[str, Any] = {}
    for name in names:
        attributes = _kept[name] if name in _kept else asked[name].answer(deadline)
        found.update({key: value for key, value in attributes.items() if key not in _NOT_THEIRS})
    return found


class _Question:
    """One detector at work, in a daemon thread: it may hang, and so may its import."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._found: dict[str, Any] | None = None
        self._of_process = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._detect, name=f"otel-monitoring-detector-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def answer(self, deadline: float) -> dict[str, Any]:
        """What the detector has found by `deadline`; nothing, and a warning, if it has not."""
        self._thread.join(max(0.0, deadline - time.monotonic()))
        found, error = self._found, self._error
        if found is None:
            why = redact_error(error) if error is not None else f"no answer within {_PATIENCE_SECONDS:g} s"
            warn_once(f"{_VARIABLE}: {self._name}: {why}; it is ignored")
        if found is None or not self._of_process:
            _kept[self._name] = found or {}
        return found or {}

    def _detect(self) -> None:
        try:
            with _importing:
                detector = _entry_point(self._name).load()()
            self._of_process = bool(detector.is_process_dependent())
            self._found = dict(detector.detect().attributes)
        except BaseException as error:  # noqa: BLE001 - code of others: it is left out, whatever it raises
            self._error = error


def _entry_point(name: str) -> EntryPoint:
    for found in entry_points(group=_GROUP, name=name):
        return found
    raise LookupError("no such detector is installed")
