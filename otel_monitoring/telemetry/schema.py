"""One schema URL for all that leaves: for resources, and for OpenTelemetry's instrumentations of HTTP.

These name the version in which the HTTP conventions became stable (1.21); those names are the same up to ours. The
names before that, which `OTEL_SEMCONV_STABILITY_OPT_IN` may ask for, belong to no schema of ours, and keep theirs.
"""

from collections.abc import Mapping

from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import Tracer, TracerProvider
from opentelemetry.util.types import AttributeValue

from otel_monitoring.environment import semconv_opt_in
from otel_monitoring.semconv import SCHEMA_URL
from otel_monitoring.telemetry.service_resource import ServiceResource


def joined(ours: Resource, theirs: Resource) -> Resource:
    """The application's resource, with what only ours has; its schema URL takes precedence, too.

    `Resource.merge` refuses different schema URLs.
    """
    return ServiceResource({**ours.attributes, **theirs.attributes}, theirs.schema_url or ours.schema_url)


def http_schema(given: str | None) -> str | None:
    """The schema URL of an instrumentation of HTTP that gives `given`."""
    return SCHEMA_URL if "http" in semconv_opt_in() else given


class OneSchema(TracerProvider):
    """Makes the tracers of an instrumentation of HTTP, with the package's schema URL.

    Args:
        provider: Makes the tracers.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Mapping[str, AttributeValue] | None = None,
    ) -> Tracer:
        """The tracer of an instrumentation scope."""
        return self._provider.get_tracer(
            instrumenting_module_name, instrumenting_library_version, http_schema(schema_url), attributes
        )
