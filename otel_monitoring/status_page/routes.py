"""The HTTP side of the page: the document, which holds no data, and the private answers that it asks for."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from fastapi import Query, Request, Response

from otel_monitoring.compression import compressed
from otel_monitoring.config.settings import Settings
from otel_monitoring.endpoints.access import NO_STORE
from otel_monitoring.endpoints.router import Router
from otel_monitoring.endpoints.unavailable import or_unavailable
from otel_monitoring.instrumentation.http_server.own_routes import Endpoint

if TYPE_CHECKING:
    from otel_monitoring.status_page.shared import Body

PageRange = Literal["15m", "1h", "6h", "1d", "3d", "7d", "30d"]
PATH = "/status"
"""The path of the page below the prefix."""


def page_url_of(settings: Settings) -> str:
    """The link to the page, in what leaves the service; empty without a page or without `public_url`."""
    return f"{settings.public_url}{settings.prefix}{PATH}" if settings.public_url and settings.page else ""


class PageService(Protocol):
    """The part of `MonitoringService` that the page uses."""

    async def page_update(self, *, every_endpoint: bool) -> "Body":
        """What changes on the page; see `Updates.next`."""

    async def page_endpoints(self, span: str) -> "Body":
        """The endpoints over a range; see `EndpointsPast.next`."""

    def page_about(self) -> dict[str, Any]:
        """Versions and settings; see `about`."""


def page_routes(
    public: Router, private: Router, service: PageService, *, ask_for_token: bool = False
) -> Sequence[Endpoint]:
    """The endpoints of the page.

    Args:
        public: A router at the path of the page that lets everybody in.
        private: One that lets admins in.
        service: The service that is shown.
        ask_for_token: Whether the page asks for the admin token at once, as nothing else opens the private answers.
    """

    @public.get("", head=True)
    def document(request: Request) -> Response:
        # Imported with the first reader: most processes never have one.
        from otel_monitoring.status_page.document import page

        # A proxy that signs the reader in adds the token to every request, also to this one.
        made = page(ask_for_token=ask_for_token and "authorization" not in request.headers)
        content = made.content.encode()
        headers = {**made.headers, "Vary": "Accept-Encoding"}
        if _takes_gzip(request):
            content, headers = compressed(content, 6, as_gzip=True), {**headers, "Content-Encoding": "gzip"}
        return Response(content, 200, headers, "text/html")

    @private.get("/update")
    async def update(request: Request, endpoints: Literal["first", "all"] = "first") -> Response:
        with or_unavailable():
            return _answer(request, await service.page_update(every_endpoint=endpoints == "all"))

    @private.get("/endpoints")
    async def endpoints(request: Request, span: Annotated[PageRange, Query(alias="range")] = "1h") -> Response:
        with or_unavailable():
            return _answer(request, await service.page_endpoints(span))

    @private.get("/about")
    def about(request: Request) -> Response:
        from otel_monitoring.status_page.shared import Body

        return _answer(request, Body.of(service.page_about()))

    return [*public.endpoints, *private.endpoints]


def _answer(request: Request, body: "Body") -> Response:
    headers = {**NO_STORE, "Vary": "Accept-Encoding"}
    if _takes_gzip(request):
        return Response(body.compressed, 200, {**headers, "Content-Encoding": "gzip"}, "application/json")
    return Response(body.plain, 200, headers, "application/json")


def _takes_gzip(request: Request) -> bool:
    return "gzip" in request.headers.get("accept-encoding", "")
