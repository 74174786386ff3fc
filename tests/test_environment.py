"""What is read and set before any setting."""

import os

import pytest

from otel_monitoring.environment import (
    disable_instrumentations,
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
        ("OTEL_PYTHON_METER_PROVIDER", "nosuch", None),
        ("OTEL_PYTHON_TRACER_PROVIDER", "sdk_tracer_provider", "sdk_tracer_provider"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "abc", None),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "-3", None),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "128", "128"),
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


def test_others_are_switched_off_beside_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "redis, fastapi")
    disable_instrumentations("fastapi", "pymongo")
    assert os.environ["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"] == "redis,fastapi,pymongo"
