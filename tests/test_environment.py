"""What is read and set before any setting."""

import os

import pytest

from otel_monitoring.environment import (
    disable_instrumentations,
    exception_signals,
    ignore_unusable,
    opt_in_to_stable_conventions,
    semconv_opt_in,
    zero_code_disabled,
)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, "http,database"),
        ("", "http,database"),
        (" ", "http,database"),
        ("http/dup", "http/dup"),
        ("x", "x"),
    ],
)
def test_the_stable_conventions_are_the_default(
    monkeypatch: pytest.MonkeyPatch, before: str | None, after: str
) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", before or "")
    if before is None:
        monkeypatch.delenv("OTEL_SEMCONV_STABILITY_OPT_IN")
    opt_in_to_stable_conventions()
    assert os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] == after
    assert semconv_opt_in() == frozenset(after.split(","))


@pytest.mark.parametrize(
    ("value", "disabled"), [("", False), ("fastapi", False), ("*", True), ("fastapi, otel_monitoring", True)]
)
def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch, value: str, disabled: bool) -> None:
    monkeypatch.setenv("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", value)
    assert zero_code_disabled() is disabled


@pytest.mark.parametrize(
    ("variable", "value", "after"),
    [
        ("OTEL_PROPAGATORS", "tracecontext,baggage,xray", "tracecontext,baggage"),
        ("OTEL_PROPAGATORS", "b3multi", None),
        ("OTEL_PROPAGATORS", "tracecontext, baggage", "tracecontext, baggage"),
        ("OTEL_PROPAGATORS", "none", "none"),
        ("OTEL_PROPAGATORS", " , ", None),
        ("OTEL_TRACES_SAMPLER", "nosuch", None),
        ("OTEL_TRACES_EXPORTER", "nosuch", None),
        ("OTEL_METRICS_EXPORTER", "otlp/stdout,Console", "console"),
        ("OTEL_LOGS_EXPORTER", "none", "none"),
        ("OTEL_EXPERIMENTAL_CONFIG_FILE", "otel.yaml", None),
        ("OTEL_TRACES_SAMPLER", "Parentbased_Always_Off", "Parentbased_Always_Off"),
        ("OTEL_EXPORTER_OTLP_LOGS_INSECURE", "yes", None),
        ("OTEL_EXPORTER_OTLP_INSECURE", "TRUE", "TRUE"),
        ("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", "log", None),
        ("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", "logs/dup", "logs/dup"),
        ("OTEL_TRACES_SAMPLER_ARG", "anything of another sampler", "anything of another sampler"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team=shop, note=a%20b=c ", "team=shop, note=a%20b=c "),
        ("OTEL_RESOURCE_ATTRIBUTES", "team=shop,owner,=x,host.name=h", "team=shop,host.name=h"),
        ("OTEL_PYTHON_METER_PROVIDER", "nosuch", None),
        ("OTEL_PYTHON_TRACER_PROVIDER", "sdk_tracer_provider", "sdk_tracer_provider"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "abc", None),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "-3", None),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "9" * 5000, None),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "128", "128"),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", str(2**63), None),  # every span would fail, in the application
        ("OTEL_SPAN_LINK_COUNT_LIMIT", str(2**63 - 1), str(2**63 - 1)),
        ("OTEL_PYTHON_FASTAPI_EXCLUDED_URLS", "[", None),
        ("OTEL_PYTHON_EXCLUDED_URLS", "health,^/a", "health,^/a"),
    ],
)
def test_what_opentelemetry_cannot_be_imported_with_is_ignored(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variable: str, value: str, after: str | None
) -> None:
    monkeypatch.setenv(variable, value)
    ignore_unusable()
    assert os.environ.get(variable) == after
    assert [line.split(":")[0] for line in caplog.messages] == ([] if after == value else [variable])


@pytest.mark.parametrize("name", ["OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_BSP_MAX_QUEUE_SIZE"])
@pytest.mark.parametrize("value", ["", " ", "\n"])
def test_a_variable_of_blanks_is_not_set(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    ignore_unusable()
    assert name not in os.environ
    assert not caplog.messages


def test_empty_items_of_resource_attributes_are_no_mistake(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=shop,,host.name=h,")
    ignore_unusable()
    assert os.environ["OTEL_RESOURCE_ATTRIBUTES"] == "team=shop,host.name=h"
    assert not caplog.messages


@pytest.mark.parametrize(
    "value", ["tracecontext,,baggage", ",tracecontext, baggage", "TraceContext,BAGGAGE", "tracecontext,baggage,baggage"]
)
def test_propagators_with_which_opentelemetry_cannot_be_imported_are_put_right(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: str
) -> None:
    monkeypatch.setenv("OTEL_PROPAGATORS", value)
    ignore_unusable()
    assert os.environ["OTEL_PROPAGATORS"] == "tracecontext,baggage"
    assert not caplog.messages


@pytest.mark.parametrize(
    ("argument", "after"),
    [("0.25", "0.25"), ("1", "1"), ("", "1.0"), ("2.5", "1.0"), ("x", "1.0"), ("nan", "1.0"), ("-1", "1.0")],
)
def test_the_argument_of_a_sampler_is_a_share(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, argument: str, after: str
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    ignore_unusable()
    assert os.environ["OTEL_TRACES_SAMPLER_ARG"] == after
    wrong = argument not in ("", after)
    assert caplog.messages == ["OTEL_TRACES_SAMPLER_ARG: it must be a number from 0 to 1; it is ignored"] * wrong


def test_a_sampler_between_blanks_is_known(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The SDK takes the blanks for a part of the name."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", " parentbased_traceidratio ")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    ignore_unusable()
    assert os.environ["OTEL_TRACES_SAMPLER"] == "parentbased_traceidratio"
    assert not caplog.messages


@pytest.mark.parametrize("value", ["LOGS", " logs ,logs"])
def test_how_exceptions_leave_is_known_in_any_case(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", value)
    ignore_unusable()
    assert exception_signals() == (False, True)


def test_a_timeout_that_was_meant_in_milliseconds_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "30")
    # The settings say what is wrong with these.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "9" * 5000)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", str(2**63 - 1))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "10000")
    ignore_unusable()
    (said,) = caplog.messages
    assert said.startswith("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT: the SDK reads it as seconds")
    assert os.environ["OTEL_EXPORTER_OTLP_LOGS_TIMEOUT"] == "10000"


def test_others_are_switched_off_beside_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "redis, fastapi")
    disable_instrumentations("fastapi", "pymongo")
    assert os.environ["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"] == "redis,fastapi,pymongo"
