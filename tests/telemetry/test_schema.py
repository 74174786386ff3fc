"""One schema URL, whatever a resource or an instrumentation of HTTP says."""

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.semconv.schemas import Schemas

from otel_monitoring.semconv import SCHEMA_URL
from otel_monitoring.telemetry.schema import OneSchema, http_schema, joined

OLD = "https://opentelemetry.io/schemas/1.21.0"


def test_it_is_the_version_that_the_installed_conventions_have() -> None:
    assert Schemas.V1_44_0.value == SCHEMA_URL


@pytest.mark.parametrize(("theirs", "result"), [("", SCHEMA_URL), (OLD, OLD), (SCHEMA_URL, SCHEMA_URL)])
def test_the_applications_resource_wins_whatever_its_schema(theirs: str, result: str) -> None:
    ours = Resource({"service.name": "ours", "service.version": "1"}, SCHEMA_URL)
    resource = joined(ours, Resource({"service.name": "theirs"}, theirs))
    assert dict(resource.attributes) == {"service.name": "theirs", "service.version": "1"}
    assert resource.schema_url == result


@pytest.mark.parametrize(("opt_in", "result"), [("http,database", SCHEMA_URL), ("database", OLD), ("http/dup", OLD)])
def test_an_instrumentation_has_it_where_its_names_are_stable(
    monkeypatch: pytest.MonkeyPatch, opt_in: str, result: str
) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", opt_in)
    assert http_schema(OLD) == result
    exporting = TracerProvider(shutdown_on_exit=False)
    span = OneSchema(exporting).get_tracer("contrib", "1", OLD).start_span("GET")
    scope = span.instrumentation_scope  # type: ignore[attr-defined]  # of the SDK
    assert (scope.name, scope.version, scope.schema_url) == ("contrib", "1", result)
