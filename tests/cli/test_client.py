"""URLs that people type, and answers that are not ours."""

import json
import re
import threading
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest

from otel_monitoring.cli.address import ServiceAddress
from otel_monitoring.cli.client import DeniedError, ServiceClient, UnreachableError
from tests.http_server import Answer, HttpServer, Request
from tests.ports import free_port


@pytest.mark.parametrize(
    ("url", "bases"),
    [
        ("http://localhost:8000", ["http://localhost:8000/api", "http://localhost:8000"]),
        ("http://localhost:8000/", ["http://localhost:8000/api", "http://localhost:8000"]),
        ("localhost:8000", ["http://localhost:8000/api", "http://localhost:8000"]),
        (" localhost ", ["http://localhost/api", "http://localhost"]),
        ("HTTP://LOCALHOST:80/shop", ["http://localhost:80/shop", "http://localhost:80/shop/api"]),
        ("https://shop.example.com/shop/", ["https://shop.example.com/shop", "https://shop.example.com/shop/api"]),
        ("localhost:8000/api", ["http://localhost:8000/api", "http://localhost:8000/api/api"]),
        ("http://localhost:8000/api/health", ["http://localhost:8000/api", "http://localhost:8000/api/api"]),
        ("http://localhost/health/live/", ["http://localhost", "http://localhost/api"]),
        ("http://localhost/api/alerts/firing", ["http://localhost/api", "http://localhost/api/api"]),
        ("http://localhost/docs", ["http://localhost", "http://localhost/api"]),
        ("http://[::1]:8000", ["http://[::1]:8000/api", "http://[::1]:8000"]),
        ("[::1]:8000/shop", ["http://[::1]:8000/shop", "http://[::1]:8000/shop/api"]),
        ("http://ana:p%40ss@shop/x", ["http://shop/x", "http://shop/x/api"]),
    ],
)
def test_where_the_endpoints_may_be(url: str, bases: list[str]) -> None:
    assert list(ServiceAddress.of(url).bases) == bases


def test_a_known_prefix_comes_before_the_usual_one() -> None:
    bases = ("http://localhost/ops", "http://localhost/api", "http://localhost")
    assert (
        ServiceAddress.of("localhost", prefix="/ops/").bases
        == ServiceAddress.of("localhost", prefix="ops").bases
        == bases
    )
    assert ServiceAddress.of("localhost/x", prefix="").bases == ("http://localhost/x", "http://localhost/x/api")


def test_a_login_is_taken_out_of_the_url() -> None:
    assert ServiceAddress.of("https://ana:p%40ss@shop/x").login == ("ana", "p@ss")
    assert ServiceAddress.of("https://shop/x@y").login is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://localhost",
        "http://",
        "http://localhost:port",
        "http://localhost/?a=1",
        "::1",
        "http://[::1",
        "http://ana:hunter2@",
        "http://ana:hunter2@host:port",
        "http://ana:hun/hunter2@host",
        "ftp://ana:hunter2@host",
        "ana:hunter2@host:99999",
        "http://ana:hunter2@host/?x#y",
    ],
)
def test_what_is_no_url_is_said_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"port|no URL") as raised:
        ServiceAddress.of(url)
    assert "hunter2" not in str(raised.value)


@pytest.fixture
def web() -> Iterator[tuple[str, dict[str, Any], list[Request]]]:
    """A server by its URL: what it answers by path (JSON, or where it redirects), and what it was asked."""
    pages: dict[str, Any] = {}

    def answer(request: Request) -> Answer:
        page = pages.get(request.path, 404)
        if isinstance(page, str):
            return Answer(307, headers={"Location": page})
        return Answer(page, b'{"detail": "no"}') if isinstance(page, int) else Answer(body=json.dumps(page).encode())

    with HttpServer(answer) as server:
        yield server.url, pages, server.requests


def sent(request: Request) -> tuple[str, str | None]:
    """The path, and who asks."""
    return request.path, request.headers.get("authorization")


@pytest.mark.parametrize("other", [404, 403, {"status": "ok"}, ["anything"]], ids=str)
def test_the_first_that_answers_as_ours_do_is_the_one(web: Any, other: Any) -> None:
    url, pages, asked = web
    pages |= {"/shop/health": other, "/shop/api/health": {"status": "healthy"}}
    pages |= {"/shop/api/health/live": {"status": "alive"}, "/shop/api/health/ready": {"status": "UP"}}
    service = ServiceClient(f"{url}/shop")
    assert service.moved is None
    assert service.get("/health") is not None
    assert service.url == f"{url}/shop/api"
    assert service.moved == f"no monitoring endpoints at {url}/shop: they are at {url}/shop/api"
    asked.clear()
    assert service.get("/health/live") is not None
    assert [request.path for request in asked] == ["/shop/api/health/live"], "it is asked no more where it is not"
    assert service.get("/health/ready") is None, "the application's own"


def test_where_nothing_is_found_it_says_where_it_looked(web: Any) -> None:
    url, pages, _ = web
    service = ServiceClient(f"{url}/shop")
    assert service.get("/health") is None
    assert f"there or at {url}/shop/api/health" in service.nothing_found("/health")
    pages["/shop/api/health"] = 403
    with pytest.raises(DeniedError):
        service.get("/health")
    assert service.url == f"{url}/shop/api", "something is there"
    pages["/shop/health"] = {"status": "degraded"}
    assert service.get("/health") is not None
    assert service.url == f"{url}/shop"


def test_a_login_or_the_token_is_sent(web: Any) -> None:
    url, pages, asked = web
    pages["/api/health"] = {"status": "healthy"}
    login = "Basic " + b64encode(b"ana:p@ss").decode()
    for given, token, expected in (
        (url, None, None),
        (url, "t0ken", "Bearer t0ken"),
        (url.replace("//", "//ana:p%40ss@"), "t0ken", login),
    ):
        service = ServiceClient(given, token=token)
        service.get("/health")
        assert sent(asked.pop()) == ("/api/health", expected)
        assert "ana" not in f"{service.url}{service.given}{service.nothing_found('/health')}"
        stranger = service.without_token()
        stranger.get("/health")
        assert sent(asked.pop()) == ("/api/health", None)


def test_redirects_on_the_same_server_are_followed(web: Any) -> None:
    url, pages, asked = web
    pages |= {"/api/health": "/api/health/", "/api/health/": f"{url}/v2/health", "/v2/health": {"status": "healthy"}}
    service = ServiceClient(url, token="t0ken")
    assert service.get("/health") is not None
    assert sent(asked[-1]) == ("/v2/health", "Bearer t0ken")
    pages["/v2/health"] = "/api/health"
    with pytest.raises(UnreachableError, match="again and again"):
        service.get("/health")


@pytest.mark.parametrize("there", ["http://ana:pass@localhost:1/login?x=1", "https://127.0.0.1:1/api/health"])
def test_the_token_goes_to_no_other_server(web: Any, there: str) -> None:
    url, pages, _ = web
    pages["/api/health"] = there
    service = ServiceClient(url, token="t0ken")
    with pytest.raises(UnreachableError) as raised:
        service.get("/health")
    shown = there.replace("ana:pass@", "").replace("?x=1", "")
    assert str(raised.value) == f"it redirects to {shown}: if that is the service, ask there"


def test_why_nobody_answers_is_said(web: Any) -> None:
    url, *_ = web
    for wrong, hint in (
        (f"http://127.0.0.1:{free_port()}", "nothing listens there"),
        (url.replace("http:", "https:"), "is it http://?"),
        ("http://no-such-host.invalid", "is the host's name right?"),
    ):
        service = ServiceClient(wrong)
        with pytest.raises(UnreachableError, match=re.escape(hint)):
            service.get("/health")


class Answering:
    """Answers with the status in the path and with `body`; `hang` never ends."""

    def __init__(self) -> None:
        self.url = ""
        self.body = b""
        self.released = threading.Event()

    def __call__(self, request: Request) -> Answer:
        status = request.path.rpartition("/")[2]
        if status == "hang":
            return Answer(body=b"{}", before_body=self.released.wait)
        return Answer(int(status), self.body)


@pytest.fixture
def answering() -> Iterator[Answering]:
    answering = Answering()
    with HttpServer(answering) as server:
        answering.url = server.url
        yield answering
        answering.released.set()


def service_at(answering: Answering, timeout: float = 5.0) -> ServiceClient:
    return ServiceClient(answering.url, token="s3cret-token", timeout=timeout)


def test_answers_are_told_apart(answering: Answering) -> None:
    service = service_at(answering)
    answering.body = b'{"status": "unhealthy"}'
    answer = service.get("/503")
    assert answer is not None
    assert (answer.status, answer.body) == (503, {"status": "unhealthy"})
    assert service.get("/404") is None
    answering.body = json.dumps({"detail": "set OTEL_MONITORING_ADMIN_TOKEN"}).encode()
    with pytest.raises(DeniedError, match="set OTEL_MONITORING_ADMIN_TOKEN"):
        service.get("/403")
    answering.body = b"<html>Bad gateway</html>"
    with pytest.raises(UnreachableError, match="502 without JSON"):
        service.get("/502")
    with pytest.raises(DeniedError, match="token"):
        service.get("/401")


def test_a_service_that_hangs_is_not_waited_for(answering: Answering) -> None:
    service = service_at(answering, timeout=0.2)
    with pytest.raises(UnreachableError, match="timed out"):
        service.get("/hang")


def test_a_proxy_is_not_asked_for_this_machine(answering: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    answering.body = b'{"status": "healthy"}'
    service = service_at(answering)
    assert service.get("/200") is not None


def test_a_proxy_of_the_environment_is_asked_for_other_machines(web: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url, pages, asked = web
    pages["http://shop.example/api/health"] = {"status": "healthy"}
    monkeypatch.setenv("ALL_PROXY", url)
    for name in ("HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert ServiceClient("http://shop.example", token="t0ken").get("/health") is not None
    assert sent(asked.pop()) == ("http://shop.example/api/health", "Bearer t0ken")
    monkeypatch.setenv("NO_PROXY", "shop.example")
    with pytest.raises(UnreachableError):
        ServiceClient("http://shop.example").get("/health")
    assert asked == []


def test_a_path_in_any_script_is_asked_for(web: Any) -> None:
    url, pages, _ = web
    pages["/k%C3%A4se%20laden/health"] = {"status": "healthy"}
    assert ServiceClient(f"{url}/k\u00e4se laden").get("/health") is not None


def test_a_token_that_no_header_takes_is_no_crash(web: Any) -> None:
    url, *_ = web
    with pytest.raises(UnreachableError):
        ServiceClient(url, token="a\nb").get("/health")
