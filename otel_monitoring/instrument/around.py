"""An application around ours: its telemetry does not measure our endpoints either."""

from collections.abc import Callable
from weakref import WeakSet

from fastapi.applications import FastAPI

from otel_monitoring.guard import contained
from otel_monitoring.instrument import contrib, native
from otel_monitoring.instrument.own_routes import answers_below, applications_below
from otel_monitoring.instrument.served import when_served

_instrumented: WeakSet[FastAPI] = WeakSet()
_told: WeakSet[FastAPI] = WeakSet()
_stop: Callable[[], None] | None = None


def look_around(app: FastAPI) -> None:
    """Have the application that mounts `app`, once it is served, leave out our endpoints below it.

    It need not be instrumented here itself: FastAPI measures it, or contrib does. Nobody looks any more when `app`
    turns out to be served itself, or to be mounted in what is.
    """
    global _stop
    _instrumented.add(app)
    if _stop is None:
        _stop = when_served(_served)


def _served(app: FastAPI) -> None:
    global _stop
    with contained("look-up of an application around"):
        if app in _instrumented:
            _instrumented.discard(app)
        elif app not in _told:
            _told.add(app)
            native.leave_out(app, lambda scope: answers_below(app, scope))
            if contrib.applied(app):
                contrib.leave_out(app, lambda scope: answers_below(app, scope))
        for mounted in applications_below(app):
            _instrumented.discard(mounted)
    if not _instrumented and _stop is not None:
        _stop()
        _stop = None
