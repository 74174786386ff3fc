"""Failed requests in groups: what is kept of them, and what is answered."""

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from otel_monitoring import semconv as c
from otel_monitoring.health.errors import NEW_SECONDS, ErrorRecorder, errors_as_json, failures
from otel_monitoring.metrics.error_groups import GROUPS_LIMIT, ErrorGroup
from otel_monitoring.metrics.outcome import OutcomeClassifier
from otel_monitoring.metrics.reader import SnapshotReader
from otel_monitoring.metrics.snapshot import AttributeValue
from otel_monitoring.metrics.window import History
from otel_monitoring.redact import redact

NOW = 1_800_000_000.0
ONE = ErrorGroup("ValueError", "GET /a", 1, NOW - 10, NOW - 5, "1.0", "a stack", None)


def raised(message: str, depth: int = 1) -> Exception:
    def deeper(left: int) -> None:
        if left:
            deeper(left - 1)
        raise ValueError(message)

    with pytest.raises(ValueError, match=message.partition(":")[0]) as caught:
        deeper(depth)
    return caught.value


def test_failures_of_one_type_and_route_are_a_group() -> None:
    recorder = ErrorRecorder()
    recorder.note("GET", "/a", None, raised("x"), NOW)
    recorder.note("GET", "/a", None, raised("y"), NOW + 5)
    recorder.note("GET", "/b", None, raised("x"), NOW)
    recorder.note("POST", None, 503, None, NOW)
    groups = {group.key: group for group in recorder.take("2.0")}
    assert groups.keys() == {("ValueError", "GET /a"), ("ValueError", "GET /b"), ("HTTP 503", "POST (unmatched)")}
    first = groups["ValueError", "GET /a"]
    assert (first.count, first.first, first.last, first.version) == (2, NOW, NOW + 5, "2.0")
    assert groups["HTTP 503", "POST (unmatched)"].stack == ""
    assert recorder.take("2.0") == []


def test_the_stack_is_that_of_the_first_failure_short_and_redacted() -> None:
    recorder = ErrorRecorder()
    recorder.note("GET", "/a", None, raised("mongodb://ana:hunter2@host/ is away", depth=500), NOW)
    (group,) = recorder.take(None)
    assert "hunter2" not in group.stack
    assert group.stack.count("in deeper") <= 12
    assert "raise ValueError(message)" in group.stack
    assert group.stack.splitlines()[-1].startswith("ValueError: mongodb://")
    assert len(group.stack) < 3000
    recorder.note("GET", "/a", None, raised("again"), NOW)
    assert recorder.take(None)[0].stack == "", "it is described already"


def test_a_group_has_a_trace_while_there_is_one() -> None:
    recorder = ErrorRecorder()
    recorder.note("GET", "/a", 500, None, NOW)
    assert recorder.take(None)[0].trace_id is None
    provider = TracerProvider(shutdown_on_exit=False)
    with provider.get_tracer("test").start_as_current_span("request") as span:
        recorder.note("GET", "/a", 500, None, NOW)
    assert recorder.take(None)[0].trace_id == trace.format_trace_id(span.get_span_context().trace_id)


def test_the_groups_of_a_process_are_bounded() -> None:
    recorder = ErrorRecorder()
    for number in range(GROUPS_LIMIT * 3):
        recorder.note("GET", f"/{number}", 500, None, NOW)
    assert len(recorder.take(None)) == GROUPS_LIMIT


def test_new_groups_come_first_then_the_last_ones() -> None:
    old = ONE._replace(route="GET /old", first=NOW - NEW_SECONDS - 1, last=NOW)
    newer = ONE._replace(route="GET /newer", last=NOW - 1)
    forgotten = ONE._replace(route="GET /gone", first=0.0, last=NOW - 31 * 86_400)
    answer = errors_as_json([old, forgotten, ONE, newer], NOW)
    assert [(group["route"], group["new"]) for group in answer] == [
        ("GET /newer", True),
        ("GET /a", True),
        ("GET /old", False),
    ]
    assert answer[1] == {
        "type": "ValueError",
        "route": "GET /a",
        "count": 1,
        "first_seen": "2027-01-15T07:59:50.000+00:00",
        "last_seen": "2027-01-15T07:59:55.000+00:00",
        "new": True,
        "version": "1.0",
        "stack": "a stack",
        "trace_id": None,
    }


def test_where_prometheus_counts_the_details_are_of_the_process_that_answers() -> None:
    reader, history = SnapshotReader(0.0), History(0.0, span=300.0, resolution=10.0)
    durations = reader.direct(c.HTTP_SERVER_REQUEST_DURATION)
    secret = "https://ana:hunter2@shop/"
    for route, status, kind, times in (
        ("/a", 500, "ValueError", 7),
        ("/b", 503, "503", 2),
        ("/b", 404, None, 9),
        (None, 500, None, 1),
        (secret, 500, "ValueError", 1),
    ):
        series: dict[str, AttributeValue | None] = {
            c.HTTP_REQUEST_METHOD: "GET",
            c.HTTP_ROUTE: route,
            c.HTTP_RESPONSE_STATUS_CODE: status,
        }
        series[c.ERROR_TYPE] = kind
        bound = durations.bind({key: value for key, value in series.items() if value is not None})
        for _ in range(times):
            bound.record(0.1)
    history.add(reader.take(10.0))
    counts = failures(history.total, OutcomeClassifier())
    not_exported = ONE._replace(route="GET /new", last=NOW)
    found = errors_as_json([ONE, not_exported], NOW, counts)
    assert [(one["type"], one["route"], one["count"], one["stack"]) for one in found[:3]] == [
        ("ValueError", "GET /new", 1, "a stack"),
        ("ValueError", "GET /a", 7, "a stack"),
        ("HTTP 503", "GET /b", 2, ""),
    ]
    assert {one["route"] for one in found[3:]} == {f"GET {c.UNMATCHED_ROUTE}", f"GET {redact(secret)}"}
    assert "hunter2" not in str(found)
    assert {(one["first_seen"], one["last_seen"], one["new"]) for one in found[2:]} == {(None, None, False)}
    many = {("ValueError", f"GET /{i}"): 1 for i in range(GROUPS_LIMIT + 5)}
    assert len(errors_as_json([ONE], NOW, many)) == GROUPS_LIMIT


def test_the_host_that_a_request_was_waiting_for_is_known_from_its_exception() -> None:
    recorder = ErrorRecorder()
    try:
        try:
            httpx.get("http://127.0.0.1:1/charges", trust_env=False)
        except httpx.ConnectError as error:
            raise RuntimeError("the payment failed") from error
    except RuntimeError as error:
        recorder.note("POST", "/billing", 502, error, NOW)
    recorder.note("POST", "/orders", 500, raised("x"), NOW)
    assert recorder.peers == {("RuntimeError", "POST /billing"): "127.0.0.1:1"}


def test_an_exception_that_is_its_own_cause_is_read_once() -> None:
    recorder, error = ErrorRecorder(), raised("x")
    error.__cause__ = error
    recorder.note("GET", "/a", None, error, NOW)
    assert recorder.peers == {}
