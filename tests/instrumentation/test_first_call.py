"""What is done before the first call of a method."""

import threading
from collections.abc import Callable
from typing import Any

from otel_monitoring.instrumentation.first_call import FirstCall
from otel_monitoring.runtime.suppression import suppress_instrumentation


def client() -> Any:
    class Client:
        def send(self, text: str) -> str:
            return text

        def other(self) -> str:
            return "other"

    return Client


def wrap(owner: Any, name: str) -> None:
    inner = vars(owner)[name]
    setattr(owner, name, lambda self, *given: f"<{inner(self, *given)}>")


def awaited(owner: Any, then: Callable[[], object] | None = None) -> tuple[FirstCall, list[str]]:
    calls: list[str] = []

    def prepare() -> None:
        calls.append("prepared")
        wrap(owner, "send") if then is None else then()

    return FirstCall([(owner, "send"), (owner, "other")], prepare), calls


def test_the_first_call_is_one_of_the_prepared_method() -> None:
    kind = client()
    _, calls = awaited(kind)
    assert calls == []
    assert [kind().send("a"), kind().send("b"), kind().other()] == ["<a>", "<b>", "other"]
    assert calls == ["prepared"]


def test_a_method_of_a_subclass_and_one_that_was_taken_before() -> None:
    kind = client()
    taken = []
    _, calls = awaited(kind)
    taken.append(kind().send)
    sub = type("Sub", (kind,), {"send": lambda self, text: kind.send(self, text.upper())})
    assert sub().send("a") == "<A>"
    assert taken[0]("b") == "<b>"
    assert calls == ["prepared"]


def test_suppressed_calls_do_not_count() -> None:
    kind = client()
    _, calls = awaited(kind)
    with suppress_instrumentation():
        assert kind().send("a") == "a"
    assert calls == []
    assert kind().send("b") == "<b>"


def test_a_method_that_somebody_wrapped_meanwhile() -> None:
    kind = client()
    _, calls = awaited(kind)
    wrap(kind, "send")  # by somebody else
    assert kind().send("a") == "<a>"  # prepared in its midst
    assert kind().send("b") == "<<b>>"
    assert calls == ["prepared"]


def test_who_gives_up_leaves_everything_as_it_was() -> None:
    kind = client()
    before = dict(vars(kind))
    first, calls = awaited(kind)
    taken = kind().send
    first.give_up()
    assert dict(vars(kind)) == before
    assert taken("a") == "a"
    assert calls == []


def test_threads_wait_for_the_one_that_prepares() -> None:
    kind = client()
    began, go = threading.Event(), threading.Event()

    def prepare() -> None:
        began.set()
        go.wait(30)
        wrap(kind, "send")

    sent: list[str] = []
    _, calls = awaited(kind, prepare)
    late = kind().send  # as a thread has it that is on its way
    threads = [threading.Thread(target=lambda send=send: sent.append(send("a"))) for send in (kind().send, late)]
    threads[0].start()
    assert began.wait(30)
    threads[1].start()
    go.set()
    for thread in threads:
        thread.join(30)
    assert sent == ["<a>", "<a>"]
    assert calls == ["prepared"]
