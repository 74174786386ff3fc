"""Records of `logging` as OpenTelemetry's: the same as those of opentelemetry-instrumentation-logging."""

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider

from otel_monitoring.telemetry.log_pipeline import OtlpHandler


def emitted(make: Callable[[LoggerProvider], logging.Handler], record: logging.LogRecord) -> dict[str, Any]:
    exporter: Any = InMemoryLogRecordExporter  # untyped
    exporter = exporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    make(provider).emit(record)
    (made,) = exporter.get_finished_logs()
    found = made.log_record
    return {
        **{name: getattr(found, name) for name in ("timestamp", "severity_number", "severity_text", "body")},
        **{name: getattr(found, name) for name in ("event_name", "trace_id", "span_id", "trace_flags")},
        "attributes": dict(found.attributes or {}),
        "scope": made.instrumentation_scope.name,
    }


def both(record: logging.LogRecord) -> dict[str, Any]:
    theirs = emitted(lambda provider: LoggingHandler(logger_provider=provider), record)
    assert emitted(OtlpHandler, record) == theirs
    return theirs


def record(level: int = logging.INFO, error: bool = False, extra: Mapping[str, object] = {}) -> logging.LogRecord:
    made = logging.LogRecord("shop", level, __file__, 1, "%s sold", ("tea",), sys.exc_info() if error else None)
    vars(made).update(extra)
    return made


@pytest.mark.parametrize("level", [0, 5, 9, *range(10, 62), 70, 100, 1000])
def test_every_level_has_the_same_severity(level: int) -> None:
    both(record(level))


def test_extras_are_attributes_and_an_event_has_its_name() -> None:
    assert both(record(extra={"order": "o-1", "tags": ["a", "b"]}))["attributes"] == {
        "order": "o-1",
        "tags": ("a", "b"),
    }
    logging.Formatter("%(asctime)s").format(named := record(extra={"event.name": "old"}))
    assert both(named)["event_name"] == "old"
    assert both(record(extra={"event.name": "old", "otel.event.name": "new"})) | {"timestamp": 0} == {
        **both(record(extra={"otel.event.name": "new"})),
        "timestamp": 0,
    }


def test_an_exception_is_three_attributes() -> None:
    for raised in (ValueError("no tea", 2), KeyError()):
        try:
            raise raised
        except (LookupError, ValueError):
            found = both(record(logging.ERROR, error=True))
        assert found["attributes"]["exception.type"] == type(raised).__name__
    assert both(record(logging.ERROR, error=True))["attributes"] == {}


def test_the_context_is_the_span() -> None:
    with TracerProvider(shutdown_on_exit=False).get_tracer("t").start_as_current_span("work") as span:
        assert both(record())["span_id"] == span.get_span_context().span_id


def test_a_formatter_makes_the_body() -> None:
    def formatted(provider: LoggerProvider) -> logging.Handler:
        handler = OtlpHandler(provider)
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        return handler

    assert emitted(formatted, record())["body"] == "shop: tea sold"


def test_what_a_processor_logs_is_not_emitted() -> None:
    seen: list[object] = []

    class Telling(SimpleLogRecordProcessor):
        def on_emit(self, log_record: Any) -> None:
            seen.append(log_record.log_record.body)
            logging.getLogger("shop").warning("seen")

    provider = LoggerProvider(shutdown_on_exit=False)
    exporter: Any = InMemoryLogRecordExporter
    provider.add_log_record_processor(Telling(exporter()))
    handler = OtlpHandler(provider)
    logging.getLogger().addHandler(handler)
    try:
        logging.getLogger("shop").warning("once")
        logging.getLogger("shop").warning("twice")
    finally:
        logging.getLogger().removeHandler(handler)
    assert seen == ["once", "twice"]
