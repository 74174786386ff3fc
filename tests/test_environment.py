"""What is read and set before any setting."""

import os

import pytest

from otel_monitoring.environment import (
    disable_instrumentations,
    opt_in_to_stable_conventions,
    semconv_opt_in,
    zero_code_disabled,
)


@pytest.mark.parametrize(("before", "after"), [("", "http,database"), (" ", "http,database"), ("http/dup", "http/dup")])
def test_the_stable_conventions_are_the_default(monkeypatch: pytest.MonkeyPatch, before: str, after: str) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", before)
    opt_in_to_stable_conventions()
    assert os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] == after
    assert semconv_opt_in() == frozenset(after.split(","))


@pytest.mark.parametrize(
    ("value", "disabled"), [("", False), ("fastapi", False), ("*", True), ("fastapi, otel_monitoring", True)]
)
def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch, value: str, disabled: bool) -> None:
    monkeypatch.setenv("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", value)
    assert zero_code_disabled() is disabled


def test_others_are_switched_off_beside_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "redis, fastapi")
    disable_instrumentations("fastapi", "pymongo")
    assert os.environ["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"] == "redis,fastapi,pymongo"
