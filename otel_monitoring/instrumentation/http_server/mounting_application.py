"""An application that mounts an instrumented one leaves out our endpoints, and requests that are measured below it."""

from collections.abc import Callable
from weakref import WeakSet

from fastapi.applications import FastAPI
from starlette.types import Scope

from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.http_server import contrib, native
from otel_monitoring.instrumentation.http_server.own_routes import answers_below, applications_below, instrumented_below
from otel_monitoring.instrumentation.http_server.served_app import when_served

_instrumented: WeakSet[FastAPI] = WeakSet()
_configured: WeakSet[FastAPI] = WeakSet()
_stop: Callable[[], None] | None = None


def watch_mounting_application(app: FastAPI) -> None:
    """Have an application that mounts `app`, once it is served, leave out our endpoints below it.

    FastAPI or contrib may measure the mounting application although it is not instrumented here. If FastAPI measures it
    with the global providers, which may be ours, it also leaves out all requests that `app` measures: nothing is
    counted twice. The watch ends when `app`, or an application that mounts it, is served.
    """
    global _stop
    _instrumented.add(app)
    if _stop is None:
        _stop = when_served(_served)


def _served(app: FastAPI) -> None:
    global _stop
    with fail_open("look-up of an application around"):
        is_own = app in _instrumented
        _instrumented.discard(app)
        # Where nothing else waits for its application around, nothing is below: FastAPI would take 20 ms to say so.
        below = list(applications_below(app)) if _instrumented or not is_own else []
        if not is_own and below and app not in _configured:  # else no request pays for a look-up
            _configured.add(app)
            own = bool(native.providers_of(app))
            native.leave_out(app, lambda scope: answers_below(app, scope) if own else _is_measured_below(app, scope))
            if contrib.applied(app):
                contrib.leave_out(app, lambda scope: answers_below(app, scope))
        for mounted in below:
            _instrumented.discard(mounted)
    if not _instrumented and _stop is not None:
        _stop()
        _stop = None


def _is_measured_below(app: FastAPI, scope: Scope) -> bool:
    with fail_open("look-up of an application below"):
        found = instrumented_below(app, scope)
        if found is not None and not found[0].answers(found[1]):
            native.leave_to_others(scope)
        return found is not None
    return False
