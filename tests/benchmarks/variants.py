"""What is compared: the same application, instrumented in different ways."""

from dataclasses import dataclass, field

PROJECT = "project"


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to instrument the application.

    Attributes:
        name: Its key, and the name of its function in `setups`.
        title: As the tables have it.
        environment: `project` (this checkout's own), or the peer in whose environment it runs.
        environ: Environment variables; `{sink}` is the receiver's URL.
        sends: A part of a path of the receiver at which something must arrive: proof that it exports.
    """

    name: str
    title: str
    environment: str = PROJECT
    environ: dict[str, str] = field(default_factory=dict)
    sends: str | None = None


# Everyone compresses alike. A path per variant tells the receiver who sends.
_GZIP = {"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}


def _otlp(name: str, *signals: str) -> dict[str, str]:
    paths = {f"OTEL_EXPORTER_OTLP_{s.upper()}_ENDPOINT": f"{{sink}}/{name}/v1/{s}" for s in signals}
    return {**_GZIP, **paths}


VARIANTS = (
    Variant("bare", "bare application"),
    Variant("ours_embedded", "**otel_monitoring**, embedded (no endpoint)"),
    Variant("ours_without_rules", "**otel_monitoring**, embedded, every alert rule removed"),
    Variant(
        "ours_traces",
        "**otel_monitoring**, traces over OTLP",
        environ=_otlp("ours_traces", "traces"),
        sends="ours_traces/v1/traces",
    ),
    Variant(
        "ours_full",
        "**otel_monitoring**, traces and metrics over OTLP",
        environ=_otlp("ours_full", "traces", "metrics"),
        sends="ours_full/v1/traces",
    ),
    Variant("native_metrics", "FastAPI's own telemetry, metrics only", environ=_otlp("native_metrics", "metrics")),
    Variant(
        "native_lean",
        "FastAPI's own telemetry, traces and metrics, operation spans off",
        environ=_otlp("native_lean", "traces", "metrics"),
        sends="native_lean/v1/traces",
    ),
    Variant(
        "native_spans",
        "FastAPI's own telemetry, spans alone, its defaults",
        environ=_otlp("native_spans", "traces"),
        sends="native_spans/v1/traces",
    ),
    Variant(
        "native",
        "FastAPI's own telemetry, traces and metrics, its defaults",
        environ=_otlp("native", "traces", "metrics"),
        sends="native/v1/traces",
    ),
    Variant(
        "contrib",
        "opentelemetry-instrumentation-fastapi, traces and metrics",
        environ=_otlp("contrib", "traces", "metrics"),
        sends="contrib/v1/traces",
    ),
    Variant(
        "logfire",
        "logfire, traces and metrics over OTLP",
        environment="logfire",
        environ={**_otlp("logfire", "traces", "metrics"), "LOGFIRE_IGNORE_NO_CONFIG": "1"},
        sends="logfire/v1/traces",
    ),
    Variant("prometheus", "prometheus-fastapi-instrumentator", environment="prometheus-fastapi-instrumentator"),
    Variant("fastapi_watch", "fastapi-watch", environment="fastapi-watch"),
    Variant(
        "ddtrace",
        "ddtrace",
        environment="ddtrace",
        environ={
            "DD_TRACE_AGENT_URL": "{sink}",
            "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
            "DD_REMOTE_CONFIGURATION_ENABLED": "false",
            "DD_SERVICE": "benchmark",
        },
        sends="/traces",
    ),
)
BY_NAME = {variant.name: variant for variant in VARIANTS}
PEERS = tuple(v.environment for v in VARIANTS if v.environment != PROJECT)
