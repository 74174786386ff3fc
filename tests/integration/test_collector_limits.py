"""Who and what is refused: too large, unknown, without a certificate, more than memory allows."""

import gzip
import ssl
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import grpc  # type: ignore[import-untyped] # it ships no types
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.integration import otlp
from tests.integration.certificates import authority
from tests.integration.collector import Collector, collecting
from tests.otlp_sink import HttpSink
from tests.waiting import PATIENCE, eventually

pytestmark = pytest.mark.integration

MIB = 2**20


@pytest.fixture(scope="module")
def sink() -> Iterator[HttpSink]:
    with HttpSink() as sink:
        yield sink


def code(
    channel: grpc.Channel, message: ExportTraceServiceRequest, metadata: tuple[tuple[str, str], ...] = ()
) -> grpc.StatusCode:
    """How a gRPC export ends."""
    try:
        otlp.export(channel, message, timeout=PATIENCE, metadata=metadata)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@pytest.fixture(scope="module")
def guarded(sink: HttpSink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    folder = tmp_path_factory.mktemp("limits")
    variables = {"OTLP_ENDPOINT": sink.endpoint, "OTELCOL_TOKEN": "let-me-in"}
    with collecting(folder, "base", "auth", "backend-otlp", **variables) as collector:
        yield collector


LARGE = otlp.traces(otlp.span(content={"text": "x" * 9 * MIB}))
AUTHORIZED = {"authorization": "Bearer let-me-in"}


def test_a_body_that_is_too_large_is_refused(guarded: Collector, sink: HttpSink) -> None:
    assert guarded.post("traces", LARGE, **AUTHORIZED).status_code in (400, 413)
    bomb = gzip.compress(LARGE.SerializeToString())
    assert len(bomb) < MIB
    answer = guarded.post("traces", bomb, **{"content-encoding": "gzip"}, **AUTHORIZED)
    assert answer.status_code in (400, 413), "also one that only becomes large"
    with grpc.insecure_channel(f"127.0.0.1:{guarded.grpc}") as channel:
        assert code(channel, LARGE, tuple(AUTHORIZED.items())) == grpc.StatusCode.RESOURCE_EXHAUSTED
    guarded.post("traces", otlp.traces(otlp.span("small")), **AUTHORIZED).raise_for_status()
    sink.wait(lambda s: "small" in [span.name for span in s.spans()])
    assert not any(len(span.attributes) and span.attributes[0].key == "text" for span in sink.spans())


@pytest.mark.parametrize("token", [None, "Bearer wrong", "let-me-in", "Bearer"])
def test_without_the_token_nothing_is_taken(guarded: Collector, sink: HttpSink, token: str | None) -> None:
    message = otlp.traces(otlp.span("intruder"))
    headers = {} if token is None else {"authorization": token}
    for signal in ("traces", "metrics", "logs"):
        assert guarded.post(signal, message, **headers).status_code == 401
    with grpc.insecure_channel(f"127.0.0.1:{guarded.grpc}") as channel:
        assert code(channel, message, tuple(headers.items())) == grpc.StatusCode.UNAUTHENTICATED
        assert code(channel, otlp.traces(otlp.span("guest")), tuple(AUTHORIZED.items())) == grpc.StatusCode.OK
    sink.wait(lambda s: "guest" in [span.name for span in s.spans()])
    assert "intruder" not in [span.name for span in sink.spans()]


@pytest.mark.parametrize("body", [b"", b"\xff" * 100, b"{}"], ids=["empty", "no protobuf", "json"])
def test_nonsense_is_refused_and_changes_nothing(guarded: Collector, sink: HttpSink, body: bytes) -> None:
    answer = guarded.post("traces", body, **AUTHORIZED)
    assert answer.status_code == (200 if body == b"" else 400)
    span = otlp.span("after nonsense")
    guarded.post("traces", otlp.traces(span), **AUTHORIZED).raise_for_status()
    sink.wait(lambda s: span.span_id in [arrived.span_id for arrived in s.spans()])


@pytest.mark.parametrize("mutual", [False, True], ids=["tls", "mtls"])
def test_tls(sink: HttpSink, tmp_path: Path, mutual: bool) -> None:
    files = authority(tmp_path)
    variables = {
        "OTLP_ENDPOINT": sink.endpoint,
        "OTELCOL_TLS_CERT_FILE": str(files / "server.pem"),
        "OTELCOL_TLS_KEY_FILE": str(files / "server.key"),
        "OTELCOL_TLS_CLIENT_CA_FILE": str(files / "ca.pem"),
    }
    options = ("tls", "mtls") if mutual else ("tls",)
    anonymous = ssl.create_default_context(cafile=str(files / "ca.pem"))
    known = ssl.create_default_context(cafile=str(files / "ca.pem"))
    known.load_cert_chain(files / "client.pem", files / "client.key")
    root, key, certificate = ((files / name).read_bytes() for name in ("ca.pem", "client.key", "client.pem"))
    content = otlp.traces(otlp.span(f"over {options}"))
    with collecting(tmp_path, "base", *options, "backend-otlp", **variables) as collector:

        def http(context: ssl.SSLContext) -> int:
            headers = {"content-type": "application/x-protobuf"}
            with httpx.Client(verify=context, trust_env=False) as client:
                url = f"https://127.0.0.1:{collector.http}/v1/traces"
                return client.post(url, content=content.SerializeToString(), headers=headers).status_code

        def rpc(credentials: grpc.ChannelCredentials) -> grpc.StatusCode:
            with grpc.secure_channel(f"127.0.0.1:{collector.grpc}", credentials) as channel:
                return code(channel, content)

        with suppress(httpx.TransportError):  # it may hang up before the answer is read
            assert collector.post("traces", content).status_code == 400, "plain text is refused"
        assert http(known) == 200
        assert rpc(grpc.ssl_channel_credentials(root, key, certificate)) == grpc.StatusCode.OK
        if mutual:
            with pytest.raises(httpx.TransportError):
                http(anonymous)
            assert rpc(grpc.ssl_channel_credentials(root)) == grpc.StatusCode.UNAVAILABLE
        else:
            assert http(anonymous) == 200
            assert rpc(grpc.ssl_channel_credentials(root)) == grpc.StatusCode.OK
        sink.wait(lambda s: f"over {options}" in [span.name for span in s.spans()])


def test_memory_stays_bounded_under_a_flood(tmp_path: Path) -> None:
    """Ten times the limit is sent at once while nothing can leave: it refuses, stays small, and recovers."""
    limit = 160
    variables = {"OTELCOL_MEMORY_LIMIT_MIB": str(limit), "OTELCOL_MEMORY_SPIKE_MIB": "60", "GOMEMLIMIT": "128MiB"}
    text = {"text": "/word" * 800}
    flood = gzip.compress(otlp.traces(*(otlp.span("flood", text) for _ in range(1500))).SerializeToString(), 1)
    with (
        HttpSink("503") as sink,
        collecting(tmp_path, "base", "backend-otlp", OTLP_ENDPOINT=sink.endpoint, **variables) as collector,
    ):
        assert collector.process is not None
        status = Path(f"/proc/{collector.process.pid}/status")
        with ThreadPoolExecutor(16) as pool:
            send = partial(collector.post, "traces", flood, **{"content-encoding": "gzip"})
            answers = [pool.submit(send) for _ in range(100)]
            peak = 0
            while not all(answer.done() for answer in answers):
                # Without the files of the queues, which are mapped and which the system may drop.
                peak = max(peak, int(status.read_text().split("RssAnon:")[1].split()[0]) * 1024)
        codes = Counter(answer.result().status_code for answer in answers)
        assert codes[503], codes
        assert set(codes) <= {200, 503}, codes
        assert peak < 2 * limit * MIB, f"{peak / MIB} MiB"
        assert collector.figure("otelcol_receiver_refused_spans") > 0
        sink.mode = "ok"
        eventually(lambda: collector.post("traces", otlp.traces(otlp.span("after"))).status_code == 200, "it recovers")
        sink.wait(lambda s: "after" in [span.name for span in s.spans()], PATIENCE)
