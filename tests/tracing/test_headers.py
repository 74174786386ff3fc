"""`carry_headers`, and `continued` with the headers of a message, whatever they say."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_monitoring.tracing import carry_headers, continued, tagged, traced
from tests.recorded_spans import recording

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("empty", [{}, []], ids=["mapping", "pairs"])
def test_the_context_of_the_sender_is_carried_and_linked(empty: Any) -> None:
    with recording("order.id") as recorded:
        with traced("order.place"), tagged({"order.id": "o-1", "user.name": "Robin"}):
            headers = carry_headers(empty)
        with continued(headers, "billing.run"):
            pass
    sent, work = recorded.spans
    assert headers is empty
    expected = {
        "traceparent": f"00-{sent.context.trace_id:032x}-{sent.context.span_id:016x}-03",
        "baggage": "order.id=o-1",
    }
    assert {name: as_text(value) for name, value in dict(headers).items()} == expected
    assert [link.context.span_id for link in work.links] == [sent.context.span_id]
    assert (work.attributes, work.parent) == ({"order.id": "o-1"}, None)


def as_text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def test_other_headers_stay_and_those_of_an_earlier_sender_go() -> None:
    old = {"traceparent": PARENT, "Tracestate": "a=b", "BAGGAGE": "order.id=old", "content": "order"}
    with recording("order.id"), traced("order.place"):
        mapping = carry_headers(dict(old))
        pairs = carry_headers([(name, value.encode()) for name, value in old.items()])
    assert mapping.keys() == {"content", "traceparent"}
    assert [name for name, _ in pairs] == ["content", "traceparent"]
    assert mapping["traceparent"] != PARENT


@pytest.mark.parametrize("headers", [{"a": "1"}, [("a", b"1")]], ids=["mapping", "pairs"])
def test_without_a_span_they_stay_as_they_are(headers: Any) -> None:
    assert carry_headers(type(headers)(headers)) == headers


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": PARENT},
        {"traceparent": PARENT.encode()},
        [("traceparent", PARENT.encode())],
        (("other", b"x"), ("traceparent", PARENT.encode())),
        {"Traceparent": PARENT, "content": "order"},
        {b"traceparent": PARENT.encode(), b"number": b"7"},
        [(b"TraceParent", PARENT.encode())],
        [["traceparent", PARENT]],
        {"traceparent": bytearray(PARENT.encode())},
        [("traceparent", memoryview(PARENT.encode()))],
        {"trace_context": {"traceparent": PARENT}, "traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"},
    ],
    ids=[
        "text",
        "bytes",
        "pairs",
        "tuple of pairs",
        "other case",
        "Redis",
        "ASGI",
        "JSON",
        "bytearray",
        "view",
        "a document's field comes first",
    ],
)
def test_headers_of_any_client_are_read(headers: Any) -> None:
    with recording() as recorded, continued(headers, "work", child=True):
        pass
    assert recorded.span.parent is not None
    assert f"{recorded.span.parent.span_id:016x}" == "00f067aa0ba902b7"


HOSTILE = st.one_of(
    st.none(), st.integers(), st.binary(), st.text(), st.just(PARENT * 3), st.just(PARENT + "\n"), st.lists(st.none())
)


@given(
    st.one_of(
        HOSTILE,
        st.dictionaries(st.sampled_from(["traceparent", "tracestate", "baggage", "x"]), HOSTILE),
        st.lists(st.one_of(HOSTILE, st.tuples(st.just("traceparent"), HOSTILE), st.tuples(HOSTILE, HOSTILE, HOSTILE))),
    )
)
def test_no_content_breaks_the_work(headers: Any) -> None:
    with recording() as recorded, continued(headers, "work"):
        pass
    assert recorded.span.links == ()


def test_of_very_many_headers_only_the_first_are_looked_at() -> None:
    many = [(f"h{number}", b"") for number in range(10_000)]
    with recording() as recorded, continued([*many, ("traceparent", PARENT.encode())], "work"):
        pass
    assert recorded.span.links == ()


def test_headers_of_another_kind_never_break_the_sender() -> None:
    class Refusing(dict[str, Any]):
        def update(self, *_: Any, **__: Any) -> None:
            raise RuntimeError("read only")

    with recording(), traced("order.place"):
        assert carry_headers(Refusing()) == {}
