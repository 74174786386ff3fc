"""`span_details`: name and attributes of a request span at its start, for contrib's engine."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from otel_monitoring import semconv
from otel_monitoring.instrumentation.http_server.request_options import RequestOptions
from otel_monitoring.instrumentation.url_query import query_with_values, redacted_query

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def span_details(options: RequestOptions, scope: Scope) -> tuple[str, dict[str, Any]]:
    """Name and attributes of a server span at its start, as in FastAPI's own telemetry."""
    attributes: dict[str, Any] = {semconv.URL_SCHEME: scope.get("scheme", "http"), **_server(scope)}
    if scope["type"] == "websocket":
        attributes["network.protocol.name"] = "websocket"
        name = "WS"
    else:
        method = scope["method"]
        known = method in options.known_methods
        name = method if known else "HTTP"
        attributes[semconv.HTTP_REQUEST_METHOD] = method if known else "_OTHER"
        if not known:
            attributes["http.request.method_original"] = method
        if scope.get("http_version"):
            attributes[semconv.NETWORK_PROTOCOL_VERSION] = scope["http_version"]
        attributes["url.path"] = scope["path"]
    query = scope.get("query_string")
    if query:
        attributes["url.query"] = query_with_values(query) if options.capture_query else redacted_query(query)
    return name, attributes


def _server(scope: Scope) -> Mapping[str, Any]:
    """`server.address` and `server.port` from the Host header; none from a malformed one."""
    authority = Headers(scope=scope).get("host")
    if authority is None:
        address, port = scope.get("server") or (None, None)
    else:
        try:
            url = urlsplit("//" + authority)
            address, port = url.hostname, url.port
        except ValueError:
            return {}
        if url.username is not None or url.path or url.query or url.fragment:
            return {}
        port = port or _DEFAULT_PORTS.get(scope.get("scheme", "http"))
    if address is None:
        return {}
    return (
        {semconv.SERVER_ADDRESS: address}
        if port is None
        else {semconv.SERVER_ADDRESS: address, semconv.SERVER_PORT: port}
    )
