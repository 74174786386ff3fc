"""`suppress_instrumentation` and OpenTelemetry's own function of that name mean the same."""

import runpy

import pytest
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, get_value
from opentelemetry.instrumentation import utils

from otel_monitoring import seams
from otel_monitoring.runtime import suppression
from otel_monitoring.runtime.suppression import is_suppressed, suppress_instrumentation
from otel_monitoring.seams import all_seams


def test_instrumentations_see_it() -> None:
    with suppress_instrumentation():
        assert not utils.is_instrumentation_enabled()
        assert get_value(_SUPPRESS_INSTRUMENTATION_KEY)
        assert get_value("suppress_instrumentation")
        assert is_suppressed()
    assert utils.is_instrumentation_enabled()
    assert not is_suppressed()


def test_what_others_suppress_is_suppressed() -> None:
    with utils.suppress_instrumentation():
        assert is_suppressed()
    assert not is_suppressed()


def test_it_ends_with_an_error() -> None:
    with pytest.raises(ZeroDivisionError), suppress_instrumentation():
        raise ZeroDivisionError
    assert not is_suppressed()


def test_without_the_key_of_the_api_the_plain_one_remains(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr("opentelemetry.context._SUPPRESS_INSTRUMENTATION_KEY")
    made = runpy.run_path(str(suppression.__file__))
    with made["suppress_instrumentation"]():
        assert made["is_suppressed"]()
        assert not utils.is_instrumentation_enabled()
    assert [seam for seam in all_seams() if not seam.holds] == [seams.SUPPRESSION]
    assert seams.SUPPRESSION.without in caplog.text
