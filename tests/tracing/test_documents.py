"""`carry` and `continued`: from a request through a document to the work on it, whatever the document says."""

from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import baggage
from opentelemetry.trace import SpanKind

from otel_monitoring.guard import fail_open
from otel_monitoring.tracing import CONTEXT_FIELD, carry, continued, tagged, traced
from tests.recorded_spans import recording

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"


def test_the_context_of_the_request_is_carried_and_linked() -> None:
    with recording("order.id") as recorded:
        with traced("request"), tagged({"order.id": "o-1", "user.name": "Robin"}):
            document: dict[str, Any] = carry({"_id": 1})
        with continued(document, "billing.run", attributes={"a": 1}) as span:
            span.set_attribute("b", 2)
            assert baggage.get_all() == {"order.id": "o-1"}
    request, work = recorded.spans
    assert document.keys() == {"_id", CONTEXT_FIELD}
    assert document[CONTEXT_FIELD] == {
        "traceparent": f"00-{request.context.trace_id:032x}-{request.context.span_id:016x}-03",
        "baggage": "order.id=o-1",
    }
    assert (work.name, work.kind) == ("billing.run", SpanKind.CONSUMER)
    assert work.attributes == {"a": 1, "b": 2, "order.id": "o-1"}
    assert work.parent is None
    assert work.context.trace_id != request.context.trace_id
    (link,) = work.links
    assert link.context.span_id == request.context.span_id
    assert link.context.trace_id == request.context.trace_id
    assert request.attributes == {"order.id": "o-1"}


def test_or_continued_as_a_child() -> None:
    with recording() as recorded, continued({CONTEXT_FIELD: {"traceparent": PARENT}}, "work", child=True):
        pass
    assert recorded.span.parent is not None
    assert f"{recorded.span.parent.span_id:016x}" == SPAN_ID
    assert f"{recorded.span.context.trace_id:032x}" == TRACE_ID
    assert recorded.span.links == ()


def test_inside_of_a_span_it_stays_there_and_links() -> None:
    with recording() as recorded, traced("batch"), continued({CONTEXT_FIELD: {"traceparent": PARENT}}, "work"):
        pass
    work, batch = recorded.spans
    assert work.parent is not None
    assert work.parent.span_id == batch.context.span_id
    assert [f"{link.context.span_id:016x}" for link in work.links] == [SPAN_ID]


def test_work_that_continues_fails_as_traced_work_does() -> None:
    with recording() as recorded, pytest.raises(LookupError), continued({}, "work"):
        raise LookupError("gone")
    assert recorded.durations() == [({"otel_monitoring.operation.name": "work", "error.type": "LookupError"}, 1)]


def test_a_newer_context_replaces_the_older_one() -> None:
    with recording() as recorded:
        document: dict[str, Any] = {CONTEXT_FIELD: {"traceparent": PARENT, "baggage": "a=b"}}
        with traced("again"):
            carry(document)
    assert document[CONTEXT_FIELD]["traceparent"].split("-")[2] == f"{recorded.span.context.span_id:016x}"
    assert "baggage" not in document[CONTEXT_FIELD]


def test_without_a_span_a_document_stays_as_it_is() -> None:
    assert carry({"_id": 1}) == {"_id": 1}


def test_a_document_that_takes_nothing_is_given_back() -> None:
    frozen: Any = MappingProxyType({"_id": 1})
    with recording(), traced("request"):
        assert carry(frozen) is frozen
    assert fail_open.failures == {"trace context of a document": 1}


@pytest.mark.parametrize(
    "document",
    [
        None,
        "text",
        [],
        {},
        {CONTEXT_FIELD: None},
        {CONTEXT_FIELD: "00-1-1-01"},
        {CONTEXT_FIELD: [PARENT]},
        {CONTEXT_FIELD: {}},
        {CONTEXT_FIELD: {"traceparent": None}},
        {CONTEXT_FIELD: {"traceparent": [PARENT]}},
        {CONTEXT_FIELD: {"traceparent": {"$gt": ""}}},
        {CONTEXT_FIELD: {"traceparent": f"00-{'0' * 32}-{SPAN_ID}-01"}},
        {CONTEXT_FIELD: {"traceparent": f"00-{TRACE_ID}-{'0' * 16}-01"}},
        {CONTEXT_FIELD: {"traceparent": f"ff-{TRACE_ID}-{SPAN_ID}-01"}},
        {CONTEXT_FIELD: {"traceparent": PARENT + "\n"}},
        {CONTEXT_FIELD: {"traceparent": PARENT.replace("4", "٤")}},
        {CONTEXT_FIELD: {"traceparent": PARENT + "-" + "a" * 1_000_000}},
    ],
)
@pytest.mark.parametrize("child", [False, True])
def test_what_is_missing_or_malformed_is_left_out(document: object, child: bool) -> None:
    with recording() as recorded, continued(document, "work", child=child):
        pass
    assert recorded.span.links == ()
    assert recorded.span.parent is None
    assert not fail_open.failures


def test_oversized_and_unlisted_company_of_a_valid_context_is_left_out() -> None:
    stored = {
        "traceparent": PARENT,
        "tracestate": "a=" + "x" * 10_000,
        "baggage": "order.id=" + "x" * 3000 + ",evil=1",
        "more": "x" * 10_000,
    }
    with recording("order.id") as recorded, continued({CONTEXT_FIELD: stored}, "work"):
        assert baggage.get_all() == {"order.id": "x" * 128}
    (link,) = recorded.span.links
    assert len(link.context.trace_state) == 0
    assert recorded.span.attributes == {"order.id": "x" * 128}
    with recording("order.id") as recorded, continued({CONTEXT_FIELD: {**stored, "baggage": "a=b," * 5000}}, "work"):
        assert baggage.get_all() == {}


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.just(PARENT),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
keys = st.sampled_from(["traceparent", "tracestate", "baggage"])


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(keys, anything | st.text(max_size=200)), st.booleans())
def test_no_content_breaks_the_work(stored: dict[str, Any], child: bool) -> None:
    with recording("order.id") as recorded, continued({CONTEXT_FIELD: stored}, "work", child=child):
        pass
    assert recorded.span.name == "work"
    assert not fail_open.failures
