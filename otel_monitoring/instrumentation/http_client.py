"""HTTP clients of the application: httpx, aiohttp and requests, by OpenTelemetry's instrumentations of them.

A client is instrumented before its first request, if its instrumentation is installed
(`pip install 'otel-monitoring[http]'`) and nobody else has instrumented it. An instrumentation takes a MiB, which those
who only import the client need not have.
"""

import ipaddress
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from contextvars import ContextVar
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final, NamedTuple
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
from otel_monitoring.instrumentation.first_call import FirstCall
from otel_monitoring.instrumentation.url_query import redacted_query
from otel_monitoring.runtime.current_service import PerService
from otel_monitoring.runtime.imported import when_imported
from otel_monitoring.telemetry.per_service_providers import (
    PerServiceMeterProvider,
    PerServiceTracerProvider,
    ServiceProviders,
)


class _Instrumentation(NamedTuple):
    """OpenTelemetry's instrumentation of a client, and the client's methods that it wraps."""

    module: str
    instrumentor: str
    methods: tuple[tuple[str, str], ...]


_CLIENTS: Final = {
    "httpx": _Instrumentation(
        "opentelemetry.instrumentation.httpx",
        "HTTPXClientInstrumentor",
        (("HTTPTransport", "handle_request"), ("AsyncHTTPTransport", "handle_async_request")),
    ),
    "aiohttp": _Instrumentation(
        "opentelemetry.instrumentation.aiohttp_client", "AioHttpClientInstrumentor", (("ClientSession", "__init__"),)
    ),
    "requests": _Instrumentation(
        "opentelemetry.instrumentation.requests", "RequestsInstrumentor", (("Session", "send"),)
    ),
}
_awaited: set[str] = set()
"""Clients whose import is awaited."""
_found: set[str] = set()
"""Clients whose first request is awaited, or that are instrumented."""
_GUARD: Final = fail_open("instrumentation of an HTTP client")
# https://www.iana.org/assignments/special-use-domain-names/, and the domain of Kubernetes' services.
_PRIVATE_DOMAINS: Final = (".internal", ".local", ".localhost", ".home.arpa", ".svc", ".test")
_URL_ATTRIBUTES: Final = ("url.full", "http.url")  # of the stable and of the old conventions
_to_external_host: ContextVar[bool] = ContextVar("otel_monitoring_request_to_external_host", default=False)


def instrument_clients(
    tracer_provider: TracerProvider,
    meter_provider: MeterProvider,
    *,
    baggage_hosts: Iterable[str] = (),
    capture_query: bool = False,
    service: object = None,
) -> Callable[[], None]:
    """Measure each request of a client by a span and a duration, and send the trace context to the called service.

    Baggage is sent to private hosts and to `baggage_hosts` only, because it describes the application's work. Requests
    inside `suppress_instrumentation` are not measured.

    Args:
        tracer_provider: Makes the tracer of the spans.
        meter_provider: Makes the histogram `http.client.request.duration`.
        baggage_hosts: Host names; `.example.com` means all hosts below that domain.
        capture_query: Keep the values of the query in `url.full`.
        service: The service whose application's requests these are: see `PerService`. The clients themselves are
            instrumented once in a process.

    Returns:
        Ends the measurement for this service.
    """
    end = _services.use(
        _ClientSettings(tracer_provider, meter_provider, InternalHosts(baggage_hosts), capture_query), service
    )
    _instrument()

    def undo() -> None:
        end()
        if _services.first() is None:
            with _GUARD:
                _clients.close()

    return undo


class _ClientSettings(ServiceProviders):
    """The providers of one service, and its settings for requests of its clients."""

    def __init__(
        self, tracers: TracerProvider, meters: MeterProvider, internal_hosts: "InternalHosts", capture_query: bool
    ) -> None:
        super().__init__(tracers, meters)
        self.internal_hosts = internal_hosts
        self.capture_query = capture_query


_services = PerService[_ClientSettings]()
_clients = ExitStack()
"""Undoes the instrumentation of the clients when it is closed."""


def _instrument() -> None:
    """Instrument the clients that are imported, before their first request; others when the application imports them.

    Instrumentations import what they instrument: aiohttp alone, which is often there unused, takes 9 MiB.
    """
    for client in _CLIENTS:
        if client not in _awaited:
            _awaited.add(client)
            when_imported(client, partial(_imported, client))
    _withhold_baggage()


def _imported(name: str, client: ModuleType) -> None:
    _awaited.discard(name)
    if _services.first() is not None:
        _await_request(name, client)


def _await_request(name: str, client: ModuleType) -> None:
    instrumentation = _CLIENTS[name]
    with _GUARD:
        if name in _found or find_spec(instrumentation.module) is None:
            return
        methods = [(getattr(client, owner), method) for owner, method in instrumentation.methods]
        first_request = FirstCall(methods, lambda: _instrument_client(instrumentation))
        _found.add(name)
        _clients.callback(_found.discard, name)
        _clients.callback(first_request.give_up)


def _instrument_client(instrumentation: _Instrumentation) -> None:
    with _GUARD:
        instrumentor = getattr(import_module(instrumentation.module), instrumentation.instrumentor)()
        if instrumentor.is_instrumented_by_opentelemetry:
            return
        instrumentor.instrument(
            tracer_provider=PerServiceTracerProvider(_services.of_current),
            meter_provider=PerServiceMeterProvider(_services.of_current),
            request_hook=_request_hook,
            async_request_hook=_async_request_hook,
        )
        _clients.callback(instrumentor.uninstrument)


class InternalHosts:
    """The hosts to which baggage is sent.

    Args:
        hosts: Host names, and `.example.com` for all hosts below a domain, in addition to private hosts.
    """

    def __init__(self, hosts: Iterable[str]) -> None:
        self._hosts = frozenset(host for host in hosts if not host.startswith("."))
        self._domains = (*_PRIVATE_DOMAINS, *(host for host in hosts if host.startswith(".")))

    def is_internal(self, host: str) -> bool:
        """Whether `host` is listed, or private by its name or IP address."""
        if host in self._hosts or host.endswith(self._domains):
            return True
        try:
            return not ipaddress.ip_address(host).is_global
        except ValueError:
            return "." not in host and host != ""  # a name without a domain is resolved inside the own network


def _request_hook(span: Any, request: Any) -> None:
    """Request hook of the instrumentations: runs after the span has started, before the headers are written."""
    _to_external_host.set(True)
    with _GUARD:
        service, url = _services.of_current(), _text(request.url)
        internal = service is not None and service.internal_hosts.is_internal(
            (urlsplit(url).hostname or "").rstrip(".")
        )
        _to_external_host.set(not internal)
        if (service is None or not service.capture_query) and "?" in url and span.is_recording():
            _hide_query(span)


async def _async_request_hook(span: Any, request: Any) -> None:
    """The request hook of httpx's asynchronous client."""
    _request_hook(span, request)


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
    """The global propagator, without the baggage of requests to hosts that are not internal.

    Args:
        inner: The propagator that was global before.
    """

    def __init__(self, inner: TextMapPropagator) -> None:
        self._inner = inner

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        """Extract with the inner propagator."""
        return self._inner.extract(carrier, context, getter)

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        """Inject `context`, without its baggage if the request goes to a host that is not internal."""
        if _to_external_host.get():
            _to_external_host.set(False)  # it was set for this one request
            context = baggage.clear(context)
        self._inner.inject(carrier, context, setter)

    @property
    def fields(self) -> set[str]:
        """The fields of the inner propagator."""
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
