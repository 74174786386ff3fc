"""Requests that the application makes: httpx, aiohttp and requests, by OpenTelemetry's instrumentations of them.

Each is instrumented where both the client and its instrumentation are installed (`pip install 'otel-monitoring[http]'`)
and nobody has done it before.
"""

import ipaddress
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from contextvars import ContextVar
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import urlsplit

from opentelemetry import baggage, propagate
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.trace import TracerProvider

from otel_monitoring.guard import fail_open
from otel_monitoring.instrumentation.url_query import redacted_query
from otel_monitoring.runtime.current_service import PerService
from otel_monitoring.telemetry.per_service_providers import (
    PerServiceMeterProvider,
    PerServiceTracerProvider,
    ServiceProviders,
)

_CLIENTS: Final = (
    ("httpx", "httpx", "HTTPXClientInstrumentor"),
    ("aiohttp", "aiohttp_client", "AioHttpClientInstrumentor"),
    ("requests", "requests", "RequestsInstrumentor"),
)
_GUARD: Final = fail_open("instrumentation of an HTTP client")
# https://www.iana.org/assignments/special-use-domain-names/, and where Kubernetes puts its services.
_PRIVATE_DOMAINS: Final = (".internal", ".local", ".localhost", ".home.arpa", ".svc", ".test")
_URL_ATTRIBUTES: Final = ("url.full", "http.url")  # of the stable and of the old conventions
_goes_out: ContextVar[bool] = ContextVar("otel_monitoring_request_goes_out", default=False)


def instrument_clients(
    tracer_provider: TracerProvider,
    meter_provider: MeterProvider,
    *,
    baggage_hosts: Iterable[str] = (),
    capture_query: bool = False,
    service: object = None,
) -> Callable[[], None]:
    """Give each request of a client a span and a duration, and let the trace go on in the service that is called.

    Baggage goes to private hosts and to `baggage_hosts` only: it says what the work is about, which is nobody else's
    business. `suppress_instrumentation` keeps a request out of it all.

    Args:
        tracer_provider: Where spans go.
        meter_provider: Where `http.client.request.duration` goes.
        baggage_hosts: Host names, and `.example.com` for all below.
        capture_query: Keep the values of the query in `url.full`.
        service: Whose application's requests: see `PerService`. A client is instrumented once in a process.

    Returns:
        The undo.
    """
    end = _services.use(_Service(tracer_provider, meter_provider, InternalHosts(baggage_hosts), capture_query), service)
    _instrument()

    def undo() -> None:
        end()
        if _services.first() is None:
            with _GUARD:
                _clients.close()

    return undo


class _Service(ServiceProviders):
    """Whose requests go where."""

    def __init__(
        self, tracers: TracerProvider, meters: MeterProvider, destinations: "InternalHosts", capture_query: bool
    ) -> None:
        super().__init__(tracers, meters)
        self.destinations = destinations
        self.capture_query = capture_query


_services = PerService[_Service]()
_clients = ExitStack()
"""What undoes the instrumentation of the clients."""


def _instrument() -> None:
    """Instrument the clients that nobody has instrumented so far."""
    for client, module, name in _CLIENTS:
        with _GUARD:
            instrumentor = _instrumentor(client, module, name)
            if instrumentor is None or instrumentor.is_instrumented_by_opentelemetry:
                continue
            instrumentor.instrument(
                tracer_provider=PerServiceTracerProvider(_services.of_current),
                meter_provider=PerServiceMeterProvider(_services.of_current),
                request_hook=_describe,
                async_request_hook=_describe_soon,
            )
            _clients.callback(instrumentor.uninstrument)
    _withhold_baggage()


def _instrumentor(client: str, module: str, name: str) -> Any:
    package = f"opentelemetry.instrumentation.{module}"
    if find_spec(client) is None or find_spec(package) is None:
        return None
    return getattr(import_module(package), name)()


class InternalHosts:
    """Tells by its URL whether a request stays among our own.

    Args:
        hosts: Hosts that do, beside private ones.
    """

    def __init__(self, hosts: Iterable[str]) -> None:
        self._hosts = frozenset(host for host in hosts if not host.startswith("."))
        self._domains = (*_PRIVATE_DOMAINS, *(host for host in hosts if host.startswith(".")))

    def is_internal(self, host: str) -> bool:
        """Whether `host` is listed, or private by its name or address."""
        if host in self._hosts or host.endswith(self._domains):
            return True
        try:
            return not ipaddress.ip_address(host).is_global
        except ValueError:
            return "." not in host and host != ""  # a name without a domain is resolved by our own network


def _describe(span: Any, request: Any) -> None:
    """What the instrumentations call between the start of the span and the writing of the headers."""
    _goes_out.set(True)
    with _GUARD:
        service, url = _services.of_current(), _text(request.url)
        own = service is not None and service.destinations.is_internal((urlsplit(url).hostname or "").rstrip("."))
        _goes_out.set(not own)
        if (service is None or not service.capture_query) and "?" in url and span.is_recording():
            _hide_query(span)


async def _describe_soon(span: Any, request: Any) -> None:
    """The same for httpx's asynchronous client."""
    _describe(span, request)


def _text(url: Any) -> str:
    if isinstance(url, tuple):  # httpx before 0.18: scheme, host, port, path
        scheme, host, _, path = url
        return b"".join((scheme, b"://", host, path)).decode()
    return str(url)


def _hide_query(span: Any) -> None:
    for key in _URL_ATTRIBUTES:
        url, mark, query = str(span.attributes.get(key, "")).partition("?")
        if mark:
            span.set_attribute(key, f"{url}?{redacted_query(query.encode())}")


class InternalOnlyBaggagePropagator(TextMapPropagator):
    """The propagator that was there, which does not see the baggage when the request goes out to strangers.

    Args:
        inner: What was there.
    """

    def __init__(self, inner: TextMapPropagator) -> None:
        self._inner = inner

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        """As the inner one."""
        return self._inner.extract(carrier, context, getter)

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        """As the inner one, maybe without baggage."""
        if _goes_out.get():
            _goes_out.set(False)  # noted for this one request
            context = baggage.clear(context)
        self._inner.inject(carrier, context, setter)

    @property
    def fields(self) -> set[str]:
        """As the inner one."""
        return self._inner.fields


def _withhold_baggage() -> None:
    before = propagate.get_global_textmap()
    if isinstance(before, InternalOnlyBaggagePropagator):
        return
    ours = InternalOnlyBaggagePropagator(before)
    propagate.set_global_textmap(ours)

    def undo() -> None:
        if propagate.get_global_textmap() is ours:
            propagate.set_global_textmap(before)

    _clients.callback(undo)
