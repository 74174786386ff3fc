"""`suppress_instrumentation` and OpenTelemetry's own function of that name mean the same."""

import pytest
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, get_value
from opentelemetry.instrumentation import utils

from otel_monitoring.runtime.suppression import is_suppressed, suppress_instrumentation


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
