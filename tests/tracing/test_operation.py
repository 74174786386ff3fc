"""`traced`: spans, durations and alerts of operations, sync and async."""

import asyncio
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as contexts
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import (
    NonRecordingSpan,
    NoOpTracerProvider,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    get_current_span,
)

from otel_monitoring import MonitoringService
from otel_monitoring.alerts import AlertManager, AlertSeverity, AlertType, set_alert_manager
from otel_monitoring.alerts.model import DEFAULT_SEVERITY, Notification
from otel_monitoring.baggage import BaggageKeys
from otel_monitoring.guard import fail_open
from otel_monitoring.metrics.reader import SnapshotReader
from otel_monitoring.runtime.current_service import within_service
from otel_monitoring.telemetry.meter_providers import GuardedMeterProvider
from otel_monitoring.testing import MemoryChannel
from otel_monitoring.tracing import continued, tagged, traced
from otel_monitoring.tracing.destination import Destination, current_destination, use
from tests.measured import metrics_of
from tests.recorded_spans import Recorded, recording


class BillingError(Exception):
    pass


@traced("billing.run", attributes={"billing.kind": "monthly"}, kind=SpanKind.CONSUMER)
def bill(cents: int, *, fail: bool = False, hint: str = "password=hunter2") -> int:
    """Made at import, before anything is set up."""
    if fail:
        raise BillingError(f"declined, {hint}, {cents}")
    return cents


@traced("billing.run.soon", alert="billing_failure")
async def bill_soon(cents: int, *, fail: bool = False) -> int:
    await asyncio.sleep(0)
    return bill(cents, fail=fail)


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    with recording() as kept:
        yield kept
    assert not fail_open.failures


class Channel(MemoryChannel):
    """Also keeps the threads it was sent from."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[str] = []

    async def send(self, notification: Notification) -> None:
        self.threads.append(threading.current_thread().name)
        await super().send(notification)


@pytest.fixture
def channel() -> Channel:
    channel = Channel()
    set_alert_manager(AlertManager(channels=[channel]))
    return channel


def test_a_call_is_a_span_and_a_measurement(recorded: Recorded) -> None:
    assert bill(5) == 5
    span = recorded.span
    assert (span.name, span.kind, dict(span.attributes or {})) == (
        "billing.run",
        SpanKind.CONSUMER,
        {"billing.kind": "monthly"},
    )
    assert span.status.status_code is StatusCode.UNSET
    assert recorded.durations() == [({"otel_monitoring.operation.name": "billing.run"}, 1)]


async def _bill_twice() -> list[int]:
    return list(await asyncio.gather(bill_soon(1), bill_soon(2)))


def test_coroutines_each_have_their_own_span_and_parents_hold(recorded: Recorded) -> None:
    assert asyncio.run(_bill_twice()) == [1, 2]
    outer = {span.context.span_id: span for span in recorded.spans if span.name == "billing.run.soon"}
    inner = [span for span in recorded.spans if span.name == "billing.run"]
    assert len(outer) == 2
    assert {span.parent.span_id for span in inner if span.parent} == outer.keys()
    assert all(span.parent is None for span in outer.values())


@pytest.mark.parametrize(("opt_in", "events", "logs"), [("", 1, 0), ("logs", 0, 1), ("logs/dup", 1, 1)])
def test_what_is_raised_leaves_once_as_is_opted_in(
    monkeypatch: pytest.MonkeyPatch, opt_in: str, events: int, logs: int
) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", opt_in)
    with recording() as recorded:
        with pytest.raises(BillingError), traced("month.close"):
            bill(7, fail=True)
        inner, outer = recorded.spans
        assert [span.status.status_code for span in (inner, outer)] == [StatusCode.ERROR] * 2
        assert [len(span.events) for span in (inner, outer)] == [events, 0]
        records = [entry.log_record for entry in recorded.logs.get_finished_logs()]
    assert len(records) == logs
    for record in records:
        assert (record.event_name, record.body) == ("otel_monitoring.operation.exception", "billing.run failed")
        assert record.attributes["otel_monitoring.operation.name"] == "billing.run"
        assert record.attributes["exception.type"] == "tests.tracing.test_operation.BillingError"
        assert record.span_id == inner.context.span_id
        assert "hunter2" not in repr(record.attributes)


def test_what_is_raised_goes_on_as_it_was_and_is_recorded_without_secrets(recorded: Recorded) -> None:
    with pytest.raises(BillingError, match="hunter2") as raised:
        bill(7, fail=True)
    span = recorded.span
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["error.type"] == "tests.tracing.test_operation.BillingError"
    (event,) = span.events
    assert event.name == "exception"
    assert event.attributes is not None
    stack = str(event.attributes["exception.stacktrace"])
    assert "in bill\n" in stack
    assert stack.splitlines()[-1].startswith("tests.tracing.test_operation.BillingError: declined")
    assert "hunter2" not in f"{span.status.description}{event.attributes}"
    assert raised.value.__cause__ is None
    assert recorded.durations() == [
        (
            {
                "otel_monitoring.operation.name": "billing.run",
                "error.type": "tests.tracing.test_operation.BillingError",
            },
            1,
        )
    ]


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(1)])
def test_cancellation_and_the_end_of_the_process_are_no_errors(
    recorded: Recorded, channel: Channel, error: BaseException
) -> None:
    @traced("work", alert=AlertType.CUSTOM)
    def work() -> None:
        raise error

    with pytest.raises(type(error)):
        work()
    assert recorded.span.status.status_code is StatusCode.UNSET
    assert recorded.span.events == ()
    assert recorded.durations() == [({"otel_monitoring.operation.name": "work"}, 1)]
    assert recorded.submitted == []


def test_a_cancelled_coroutine_ends_its_span(recorded: Recorded) -> None:
    @traced("waiting", alert=AlertType.CUSTOM)
    async def wait() -> None:
        await asyncio.Event().wait()

    async def cancel() -> None:
        task = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert recorded.span.status.status_code is StatusCode.UNSET
    assert recorded.submitted == []


def test_a_block_gives_its_span_and_one_object_serves_many_tasks_at_once(recorded: Recorded) -> None:
    operation = traced("import")

    async def work(number: int) -> None:
        with operation as span:
            span.set_attribute("number", number)
            await asyncio.sleep(0)
            with operation as inner:
                assert get_current_span() is inner
                inner.set_attribute("number", number)
                await asyncio.sleep(0)
            assert get_current_span() is span

    async def all_at_once() -> None:
        await asyncio.gather(*(work(number) for number in range(5)))

    asyncio.run(all_at_once())
    spans = {span.context.span_id: span for span in recorded.spans}
    nested = [span for span in spans.values() if span.parent is not None]
    assert len(nested) == len(spans) - len(nested) == 5
    for span in nested:
        assert span.parent is not None
        assert span.attributes == spans[span.parent.span_id].attributes


def test_a_decorated_function_stays_what_it_was() -> None:
    assert (bill.__name__, bill.__doc__) == ("bill", "Made at import, before anything is set up.")
    assert list(inspect.signature(bill).parameters) == ["cents", "fail", "hint"]
    assert inspect.iscoroutinefunction(bill_soon)
    assert not inspect.iscoroutinefunction(bill)


def test_methods_are_traced_too(recorded: Recorded) -> None:
    class Biller:
        rate = 3

        @traced("billing.method")
        def run(self, cents: int) -> int:
            return cents * self.rate

    assert Biller().run(2) == 6
    assert recorded.span.name == "billing.method"


class Soon:
    """Whatever can be awaited when it is called; each notes the span that is current while it works."""

    @traced("x")
    @staticmethod
    async def above_static() -> Span:
        await asyncio.sleep(0)
        return get_current_span()

    @staticmethod
    @traced("x")
    async def below_static() -> Span:
        await asyncio.sleep(0)
        return get_current_span()

    @traced("x")
    @classmethod
    async def above_class(cls) -> Span:
        await asyncio.sleep(0)
        return get_current_span()

    async def method(self) -> Span:
        await asyncio.sleep(0)
        return get_current_span()

    async def __call__(self, *_: object) -> Span:
        await asyncio.sleep(0)
        return get_current_span()


@pytest.mark.parametrize(
    "function",
    [
        Soon.above_static,
        Soon().above_static,
        Soon.below_static,
        Soon.above_class,
        traced("x")(Soon().method),
        traced("x")(Soon()),
        traced("x")(functools.partial(Soon.method, Soon())),
    ],
)
def test_whatever_is_awaited_runs_in_its_span(recorded: Recorded, function: Callable[[], Awaitable[Span]]) -> None:
    async def use() -> Span:
        return await function()

    inside = asyncio.run(use()).get_span_context()
    assert recorded.span.context is not None
    assert recorded.span.context.span_id == inside.span_id


def test_what_is_no_function_is_refused() -> None:
    for decorated in (Soon, property(lambda self: self), functools.cached_property(lambda self: self), 3):
        with pytest.raises(TypeError, match=r"traced\('x'\) decorates functions, not"):
            traced("x")(decorated)  # type: ignore[type-var]


class Numbers:
    def __call__(self) -> Iterator[int]:
        yield 1


def test_generators_are_refused_where_they_are_decorated() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    async def numbers_soon() -> AsyncIterator[int]:
        yield 1

    others: tuple[Any, ...] = (functools.partial(numbers), staticmethod(numbers), Numbers())
    for function in (numbers, numbers_soon, *others):
        with pytest.raises(TypeError, match=r"(?i)traced\('x'\) cannot decorate the generator function .*numbers"):
            traced("x")(function)


def test_wrong_arguments_are_named_where_they_stand() -> None:
    with pytest.raises(TypeError, match="named by a text"):

        @traced  # type: ignore[arg-type]
        def forgot_the_name() -> None: ...

    with pytest.raises(ValueError, match="No such type"):
        traced("x", alert="No such type")


def test_names_and_errors_that_never_end_become_one_series(recorded: Recorded) -> None:
    for number in range(300):
        with pytest.raises(Exception, match="x"), traced(f"job {number}"):
            raise type(f"Error{number}", (Exception,), {})("x")
    names = {attributes["otel_monitoring.operation.name"] for attributes, _ in recorded.durations()}
    errors = {attributes["error.type"] for attributes, _ in recorded.durations()}
    assert (len(names), len(errors)) == (201, 101)
    assert "_OTHER" in names & errors


def test_a_failure_raises_the_alert_with_its_documented_severity(recorded: Recorded, channel: Channel) -> None:
    with pytest.raises(BillingError):
        asyncio.run(bill_soon(1, fail=True))
    assert channel.alerts == []  # nobody waited for it
    recorded.run_submitted()
    (event,) = channel.alerts
    assert (event.type, event.severity) == (AlertType.BILLING_FAILURE, AlertSeverity.CRITICAL)
    assert event.message == "billing.run.soon failed: tests.tracing.test_operation.BillingError"
    assert event.details["operation"] == "billing.run.soon"
    assert "declined" in event.details["error"]
    assert "hunter2" not in event.details["error"]


def test_every_type_has_a_severity() -> None:
    assert DEFAULT_SEVERITY.keys() == set(AlertType)


def test_repetitions_are_one_notification(recorded: Recorded, channel: Channel) -> None:
    for cents in range(20):
        with pytest.raises(BillingError):
            asyncio.run(bill_soon(cents, fail=True))
    recorded.run_submitted()
    assert len(channel.alerts) == 1


def test_without_a_running_service_a_thread_sends_the_alert(channel: Channel) -> None:
    with recording(accepting=False), pytest.raises(BillingError), traced("nightly", alert=AlertType.BILLING_FAILURE):
        raise BillingError("x")
    channel.wait()
    assert channel.threads == ["otel-monitoring-alert"]


def test_a_channel_that_fails_reaches_nobody(recorded: Recorded) -> None:
    channel = Channel()
    channel.error = RuntimeError("down")
    set_alert_manager(AlertManager(channels=[channel]))
    with pytest.raises(BillingError):
        asyncio.run(bill_soon(1, fail=True))
    recorded.run_submitted()
    assert len(channel.threads) == 1, "it was tried"
    fail_open.failures.clear()


def test_without_an_alert_manager_nothing_is_sent(recorded: Recorded) -> None:
    with pytest.raises(BillingError):
        asyncio.run(bill_soon(1, fail=True))
    assert recorded.submitted == []


def test_a_tracer_that_breaks_does_not_break_the_operation(recorded: Recorded) -> None:
    class Broken:
        def start_span(self, *_: Any) -> None:
            raise RuntimeError("no span today")

    current_destination().tracer = Broken()  # type: ignore[assignment]
    assert bill(3) == 3
    assert fail_open.failures == {"tracing of an operation": 1}
    fail_open.failures.clear()


def test_without_any_provider_the_function_just_runs() -> None:
    assert bill(4) == 4
    with pytest.raises(BillingError):
        bill(4, fail=True)


def test_without_exporters_nothing_becomes_current_and_what_is_inside_is_left_in_order() -> None:
    undo = use(Destination(NoOpTracerProvider(), NoOpMeterProvider(), BaggageKeys(), lambda _: False))
    try:
        before = contexts.get_current()
        with traced("outer") as outer:
            assert contexts.get_current() is before
            with tagged({"order.id": "o-1"}), continued({}, "document", child=True):
                assert baggage.get_all() == {"order.id": "o-1"}
            assert contexts.get_current() is before
        with trace.use_span(NonRecordingSpan(SpanContext(1, 2, is_remote=True))), traced("inner") as inner:
            assert get_current_span() is inner
        assert (outer.get_span_context().is_valid, inner.get_span_context().span_id) == (False, 2)
        with pytest.raises(BillingError):
            bill(4, fail=True)
        assert contexts.get_current() is before
    finally:
        undo()


def test_durations_are_measured_for_rules_and_for_whoever_exports_them_meanwhile() -> None:
    aggregators, exporter = SnapshotReader(0.0), InMemoryMetricReader()
    meters = GuardedMeterProvider([aggregators], shutdown_on_exit=False)
    undo = use(Destination(NoOpTracerProvider(), meters, BaggageKeys(), lambda _: False, aggregators.direct))
    try:
        bill(1)
        meters.add_metric_reader(exporter)
        bill(2)
        (metric,) = metrics_of(exporter)
        assert [point.count for point in metric.data.data_points] == [1]  # type: ignore[union-attr]
        (measured,) = aggregators.take(1.0).histograms.values()
        assert measured.count == 2
        meters.remove_metric_reader(exporter)
        bill(3)
        (measured,) = aggregators.take(2.0).histograms.values()
        assert measured.count == 1
    finally:
        undo()


def test_the_service_whose_application_runs_gets_the_spans_elsewhere_the_first() -> None:
    one, other = MonitoringService(None), MonitoringService(None)
    with recording(service=one) as first:
        with recording(service=other) as second:
            bill(1)
            with within_service(other):
                bill(2)
            with within_service(one):
                bill(3)
        with within_service(other):  # it has stopped
            bill(4)
    bill(5)
    assert (len(first.spans), len(second.spans)) == (3, 1)
