"""An exception leaves once: as a span event or as a log event, from the innermost span."""

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import INVALID_SPAN

from otel_monitoring.telemetry.exception_signal import ExceptionSignal, LogEvent, has_left
from otel_monitoring.telemetry.redaction import redacted_records, redacted_spans

EVENT = LogEvent("work.exception", "work failed", {"work.name": "billing"})
OPT_IN = "OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN"


class Records:
    """A logger, and what was emitted."""

    def __init__(self) -> None:
        self.exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # the SDK left its __init__ untyped
        provider = LoggerProvider(shutdown_on_exit=False)
        provider.add_log_record_processor(SimpleLogRecordProcessor(self.exporter))
        self.logger = provider.get_logger("test")

    def __len__(self) -> int:
        return len(self.exporter.get_finished_logs())


@pytest.fixture
def records() -> Records:
    return Records()


def raised() -> ValueError:
    return ValueError("no money")


@pytest.mark.parametrize(("opt_in", "events", "logs"), [("", 1, 0), ("logs", 0, 1), ("logs/dup", 1, 1)])
def test_of_nested_spans_the_innermost_has_the_exception(
    monkeypatch: pytest.MonkeyPatch, records: Records, opt_in: str, events: int, logs: int
) -> None:
    monkeypatch.setenv(OPT_IN, opt_in)
    signal, error = ExceptionSignal(records.logger), raised()
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    with tracer.start_as_current_span("outer") as outer, tracer.start_as_current_span("inner") as inner:
        signal.record(error, inner, EVENT)
        ExceptionSignal(records.logger).record(error, outer, EVENT)
    assert [len(span.events) for span in (inner, outer)] == [events, 0]  # type: ignore[attr-defined]  # of the SDK
    assert len(records) == logs
    assert has_left(error)


def test_an_exception_that_is_raised_again_in_another_trace_leaves_again(records: Records) -> None:
    signal, error = ExceptionSignal(records.logger), raised()
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    spans = [tracer.start_span("job") for _ in range(2)]
    for span in spans:
        signal.record(error, span, EVENT)
    assert [len(span.events) for span in spans] == [1, 1]  # type: ignore[attr-defined]  # of the SDK


@pytest.mark.parametrize("span", [None, INVALID_SPAN])
def test_without_a_span_it_is_a_log_event(records: Records, span: object) -> None:
    error = raised()
    ExceptionSignal(records.logger).record(error, span, EVENT)  # type: ignore[arg-type]  # a parameter
    ExceptionSignal(records.logger).record(error, None, EVENT)
    (entry,) = records.exporter.get_finished_logs()
    record = entry.log_record
    assert (record.event_name, record.body) == ("work.exception", "work failed")
    attributes = dict(record.attributes or {})
    assert (attributes["work.name"], attributes["exception.message"]) == ("billing", "no money")


def test_logs_alone_without_a_logger_leaves_the_span_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OPT_IN, "logs")
    span = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("job")
    error = raised()
    ExceptionSignal(None).record(error, span, EVENT)
    assert not span.events  # type: ignore[attr-defined]  # of the SDK
    assert not has_left(error)


def test_neither_form_is_exported_with_a_secret(monkeypatch: pytest.MonkeyPatch, records: Records) -> None:
    monkeypatch.setenv(OPT_IN, "logs/dup")
    exported = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exported))
    with provider.get_tracer("test").start_as_current_span("job") as span:
        ExceptionSignal(records.logger).record(ValueError("mongodb://ana:hunter2@db/shop"), span, EVENT)
    (exported_span,) = redacted_spans(exported.get_finished_spans(), float)
    (record,) = redacted_records(records.exporter.get_finished_logs(), float)
    for attributes in (exported_span.events[0].attributes or {}, record.log_record.attributes or {}):
        assert "ValueError" in str(attributes["exception.stacktrace"])
        assert "db/shop" in str(attributes["exception.message"])
        assert "hunter2" not in repr(attributes)


class GroupError(Exception):
    """As `ExceptionGroup`, which Python 3.10 does not have."""

    def __init__(self, *exceptions: Exception) -> None:
        super().__init__("unhandled errors in a TaskGroup")
        self.exceptions = exceptions


@pytest.mark.parametrize("first", ["group", "part"])
def test_a_group_and_its_only_exception_leave_once(records: Records, first: str) -> None:
    part = ValueError("no money")
    group = GroupError(GroupError(part))
    signal = ExceptionSignal(records.logger)
    for error in (group, part) if first == "group" else (part, group):
        signal.record(error, None, EVENT)
        assert has_left(error)
    assert len(records) == 1
    assert has_left(group)


def test_a_group_leaves_with_what_is_new_in_it(records: Records) -> None:
    known = ValueError("no money")
    signal = ExceptionSignal(records.logger)
    signal.record(known, None, EVENT)
    group = GroupError(known, ValueError("no time"))
    assert not has_left(group)
    signal.record(group, None, EVENT)
    assert len(records) == 2


class SlottedError(Exception):
    """An exception that refuses attributes."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


class SilentError(Exception):
    """An exception that has no text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_exception_without_a_text_leaves_too(records: Records) -> None:
    ExceptionSignal(records.logger).record(SilentError(), None, EVENT)
    (entry,) = records.exporter.get_finished_logs()
    assert str((entry.log_record.attributes or {})["exception.type"]).endswith("SilentError")


def test_the_causes_of_an_exception_are_in_its_stack(records: Records) -> None:
    error = ValueError("no money")
    error.__cause__ = KeyError("purse")
    ExceptionSignal(records.logger).record(error, None, EVENT)
    (entry,) = records.exporter.get_finished_logs()
    attributes = entry.log_record.attributes or {}
    assert set(attributes) == {"work.name", "exception.type", "exception.message", "exception.stacktrace"}
    assert "purse" in str(attributes["exception.stacktrace"])


def test_an_exception_that_refuses_attributes_leaves_too(records: Records) -> None:
    ExceptionSignal(records.logger).record(SlottedError("no"), None, EVENT)
    assert len(records) == 1


def test_what_fails_while_it_is_recorded_does_not_reach_the_application(records: Records) -> None:
    def describe() -> dict[str, str]:
        raise RuntimeError("no text")

    ExceptionSignal(records.logger).record(raised(), None, EVENT, describe)
    assert len(records) == 0
