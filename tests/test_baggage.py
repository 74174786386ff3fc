"""Listed baggage: how many keys, how much of each, and that nothing a client sends goes beyond."""

import logging
from collections.abc import Iterator
from typing import Any, cast

import pytest
from opentelemetry import baggage
from opentelemetry import context as contexts
from opentelemetry._logs import LogRecord
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from otel_monitoring.baggage import MAX_KEYS, MAX_VALUE_LENGTH, BaggageKeys, bounded
from otel_monitoring.config import Settings
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.telemetry.log_pipeline import BaggageLogProcessor, OtlpHandler
from otel_monitoring.telemetry.providers import Telemetry
from otel_monitoring.tracing import tagged, traced
from tests.recorded_spans import recording

HOSTILE = ",".join(
    [
        *(f"k{number}={'v' * 40}" for number in range(100)),
        "order.id=" + "%F0%9F%A5%90%0A%00" * 100,
        "tenant=" + "t" * 900,
    ]
)


@pytest.fixture
def hostile() -> Iterator[None]:
    """The context of a request whose client sent all that."""
    assert len(HOSTILE) < 8192
    token = contexts.attach(W3CBaggagePropagator().extract({"baggage": HOSTILE}, Context()))
    assert len(baggage.get_all()) == 102
    yield
    contexts.detach(token)


@pytest.mark.usefixtures("hostile")
def test_spans_take_listed_keys_and_bounded_values() -> None:
    with recording("order.id", "tenant", "absent") as recorded, traced("work"):
        pass
    attributes = dict(recorded.span.attributes or {})
    assert attributes.keys() == {"order.id", "tenant"}
    assert all(isinstance(value, str) and len(value) <= MAX_VALUE_LENGTH for value in attributes.values())
    assert str(attributes["order.id"]).startswith("🥐\ufffd\ufffd🥐")


@pytest.mark.usefixtures("hostile")
def test_log_records_take_the_same_and_keep_what_they_have() -> None:
    exporter: Any = cast("Any", InMemoryLogRecordExporter)()  # untyped
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(BaggageLogProcessor(BaggageKeys(["order.id", "tenant"])))
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    logger, handler = logging.getLogger("test_correlation"), OtlpHandler(provider)
    logger.addHandler(handler)
    try:
        logger.warning("placed", extra={"tenant": "ours"})
    finally:
        logger.removeHandler(handler)
    (record,) = exporter.get_finished_logs()
    attributes = dict(record.log_record.attributes or {})
    assert attributes["tenant"] == "ours"
    assert len(str(attributes["order.id"])) <= MAX_VALUE_LENGTH
    assert "k0" not in attributes


@pytest.mark.usefixtures("hostile")
def test_nothing_listed_takes_nothing() -> None:
    with recording() as recorded, traced("work"):
        pass
    assert recorded.span.attributes == {}


def test_tags_are_bounded_and_only_listed_ones_are_attributes() -> None:
    with recording("order.id") as recorded, traced("request"):
        with tagged({"order.id": "o" * 500, "secret": "s", "count": 3}):
            assert baggage.get_all() == {"order.id": "o" * MAX_VALUE_LENGTH, "secret": "s", "count": "3"}
        assert baggage.get_all() == {}
    assert recorded.span.attributes == {"order.id": "o" * MAX_VALUE_LENGTH}


def test_a_value_of_any_type_is_bounded_text() -> None:
    assert [bounded(value) for value in ("a", 1, 1.5, True, object(), None)] == [
        "a",
        "1",
        "1.5",
        "True",
        "object",
        "NoneType",
    ]


def test_the_setting_lists_keys() -> None:
    assert Settings.load().baggage_keys == ()
    assert Settings.load(baggage_keys="order.id, tenant,order.id").baggage_keys == ("order.id", "tenant")


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ({"baggage_keys": "order id"}, "OTEL_MONITORING_BAGGAGE_KEYS: keys are 1 to 64 letters"),
        ({"baggage_keys": "k" * 65}, "OTEL_MONITORING_BAGGAGE_KEYS: keys are 1 to 64 letters"),
        ({"baggage_keys": ",".join(f"k{n}" for n in range(MAX_KEYS + 1))}, "OTEL_MONITORING_BAGGAGE_KEYS: .*16 items"),
        ({"baggage_hosts": "https://example.com"}, "OTEL_MONITORING_BAGGAGE_HOSTS: host names"),
    ],
)
def test_a_setting_that_cannot_work_is_named(setting: dict[str, str], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        Settings.load(**setting)


@pytest.mark.usefixtures("hostile")
def test_providers_of_the_application_get_it_too() -> None:
    exporter: Any = cast("Any", InMemoryLogRecordExporter)()
    theirs = LoggerProvider(shutdown_on_exit=False)
    settings = Settings.load(baggage_keys="order.id")
    telemetry = Telemetry(settings, service_name=None, service_version=None, providers={"logs": theirs})
    theirs.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    telemetry.logger_provider.get_logger("test").emit(LogRecord(body="placed"))
    (record,) = exporter.get_finished_logs()
    assert record.log_record.attributes.keys() == {"order.id"}
