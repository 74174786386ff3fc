"""`OtlpSettings`: the variables of OpenTelemetry that this package reads or checks.

Names and precedence are those of the OpenTelemetry specification
(https://opentelemetry.io/docs/specs/otel/protocol/exporter/): a signal's own variable wins over the common one.
Variables that are absent here, such as `OTEL_TRACES_SAMPLER`, are read by the SDK alone.
"""

import re
from pathlib import Path
from typing import Any, Final, Literal, cast
from urllib.parse import urlsplit

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    FilePath,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationInfo,
    field_validator,
)

Signal = Literal["traces", "metrics", "logs"]
Protocol = Literal["http/protobuf", "grpc"]
Compression = Literal["gzip", "deflate", "none"]
TlsFile = Literal["certificate", "client_key", "client_certificate"]

SIGNALS: Final[tuple[Signal, ...]] = ("traces", "metrics", "logs")

# The headers that `opentelemetry.util.re.parse_env_headers` accepts. It logs any other text in full, secrets included.
_HEADER = re.compile(r"\s*[!#$%&'*+\-.^_`|~0-9A-Za-z]+[ \t]*=[ \t]*[\x20\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*\s*")


def _from_variable(variable: str, default: Any = None) -> Any:
    """A field that is read from this environment variable, or given by its name in lower case.

    The name is shortened by `otel_` and `exporter_`: `otlp_endpoint` for `OTEL_EXPORTER_OTLP_ENDPOINT`.
    """
    keyword = variable.removeprefix("OTEL_").removeprefix("EXPORTER_").lower()
    return Field(default, validation_alias=AliasChoices(variable, keyword))


CHOICES = ("_protocol", "_compression", "s_exporter", "log_level")
"""The ends of the names of fields whose values are read in upper and lower case."""


def check_headers(value: SecretStr | None) -> None:
    """Check that `value` is a list of headers as in `OTEL_EXPORTER_OTLP_HEADERS`.

    Raises:
        ValueError: It is none.
    """
    items = value.get_secret_value().split(",") if value is not None else []
    if not all(_HEADER.fullmatch(item) for item in items if item.strip()):
        raise ValueError("it must be name=value pairs separated by commas")


class OtlpSettings(BaseModel):
    """Which signals are exported, where to, and how."""

    model_config = ConfigDict(defer_build=True)  # of use as a part of `Settings` alone

    config_file: str | None = _from_variable("OTEL_CONFIG_FILE")
    """The file of the declarative configuration that is in force."""
    service_name: str | None = _from_variable("OTEL_SERVICE_NAME")
    sdk_disabled: bool = _from_variable("OTEL_SDK_DISABLED", False)
    """Measure, trace and export nothing. The health endpoints answer from the checks alone."""

    traces_exporter: str = _from_variable("OTEL_TRACES_EXPORTER", "otlp")
    """Exporters, comma-separated: `otlp`, `console`, others that are installed; `none` for none."""
    metrics_exporter: str = _from_variable("OTEL_METRICS_EXPORTER", "otlp")
    logs_exporter: str = _from_variable("OTEL_LOGS_EXPORTER", "otlp")

    # The protocols stand before the endpoints, because the protocol decides whether an endpoint needs a scheme.
    otlp_protocol: Protocol = _from_variable("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    otlp_traces_protocol: Protocol | None = _from_variable("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
    otlp_metrics_protocol: Protocol | None = _from_variable("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL")
    otlp_logs_protocol: Protocol | None = _from_variable("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL")

    otlp_endpoint: str | None = _from_variable("OTEL_EXPORTER_OTLP_ENDPOINT")
    otlp_traces_endpoint: str | None = _from_variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    otlp_metrics_endpoint: str | None = _from_variable("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
    otlp_logs_endpoint: str | None = _from_variable("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT")

    otlp_compression: Compression = _from_variable("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    otlp_traces_compression: Compression | None = _from_variable("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION")
    otlp_metrics_compression: Compression | None = _from_variable("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION")
    otlp_logs_compression: Compression | None = _from_variable("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION")

    otlp_headers: SecretStr | None = _from_variable("OTEL_EXPORTER_OTLP_HEADERS")
    otlp_traces_headers: SecretStr | None = _from_variable("OTEL_EXPORTER_OTLP_TRACES_HEADERS")
    otlp_metrics_headers: SecretStr | None = _from_variable("OTEL_EXPORTER_OTLP_METRICS_HEADERS")
    otlp_logs_headers: SecretStr | None = _from_variable("OTEL_EXPORTER_OTLP_LOGS_HEADERS")

    metric_export_interval: PositiveFloat = _from_variable("OTEL_METRIC_EXPORT_INTERVAL", 60_000)
    """Milliseconds between metric exports."""

    # Read by the SDK. They are checked here, so that a wrong value is reported at start by its variable.
    otlp_timeout: PositiveFloat | None = _from_variable("OTEL_EXPORTER_OTLP_TIMEOUT")
    otlp_traces_timeout: PositiveFloat | None = _from_variable("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")
    otlp_metrics_timeout: PositiveFloat | None = _from_variable("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT")
    otlp_logs_timeout: PositiveFloat | None = _from_variable("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT")
    otlp_certificate: FilePath | None = _from_variable("OTEL_EXPORTER_OTLP_CERTIFICATE")
    otlp_client_key: FilePath | None = _from_variable("OTEL_EXPORTER_OTLP_CLIENT_KEY")
    otlp_client_certificate: FilePath | None = _from_variable("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE")
    otlp_traces_certificate: FilePath | None = _from_variable("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE")
    otlp_traces_client_key: FilePath | None = _from_variable("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY")
    otlp_traces_client_certificate: FilePath | None = _from_variable("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE")
    otlp_metrics_certificate: FilePath | None = _from_variable("OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE")
    otlp_metrics_client_key: FilePath | None = _from_variable("OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY")
    otlp_metrics_client_certificate: FilePath | None = _from_variable("OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE")
    otlp_logs_certificate: FilePath | None = _from_variable("OTEL_EXPORTER_OTLP_LOGS_CERTIFICATE")
    otlp_logs_client_key: FilePath | None = _from_variable("OTEL_EXPORTER_OTLP_LOGS_CLIENT_KEY")
    otlp_logs_client_certificate: FilePath | None = _from_variable("OTEL_EXPORTER_OTLP_LOGS_CLIENT_CERTIFICATE")
    bsp_max_queue_size: PositiveInt | None = _from_variable("OTEL_BSP_MAX_QUEUE_SIZE")
    bsp_max_export_batch_size: PositiveInt | None = _from_variable("OTEL_BSP_MAX_EXPORT_BATCH_SIZE")
    bsp_schedule_delay: PositiveInt | None = _from_variable("OTEL_BSP_SCHEDULE_DELAY")
    bsp_export_timeout: PositiveInt | None = _from_variable("OTEL_BSP_EXPORT_TIMEOUT")
    blrp_max_queue_size: PositiveInt | None = _from_variable("OTEL_BLRP_MAX_QUEUE_SIZE")
    blrp_max_export_batch_size: PositiveInt | None = _from_variable("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE")
    blrp_schedule_delay: PositiveInt | None = _from_variable("OTEL_BLRP_SCHEDULE_DELAY")
    blrp_export_timeout: PositiveInt | None = _from_variable("OTEL_BLRP_EXPORT_TIMEOUT")
    log_level: Literal["debug", "info", "warn", "warning", "error", "fatal", "none"] | None = _from_variable(
        "OTEL_LOG_LEVEL"
    )
    """The lowest level that the SDK's own loggers log."""
    metric_export_timeout: PositiveFloat | None = _from_variable("OTEL_METRIC_EXPORT_TIMEOUT")
    metrics_exemplar_filter: Literal["always_on", "always_off", "trace_based"] | None = _from_variable(
        "OTEL_METRICS_EXEMPLAR_FILTER"
    )

    @field_validator("otlp_endpoint", "otlp_traces_endpoint", "otlp_metrics_endpoint", "otlp_logs_endpoint")
    @classmethod
    def _reachable(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        value = value.strip()
        signals = [s for s in SIGNALS if info.field_name in ("otlp_endpoint", f"otlp_{s}_endpoint")]
        common = info.data.get("otlp_protocol")
        protocols = {info.data.get(f"otlp_{signal}_protocol") or common for signal in signals}
        bare = "://" not in value and protocols == {"grpc"}  # gRPC also takes host:port
        if not bare and not value.lower().startswith(("http://", "https://")):
            raise ValueError("it must be a URL that starts with http:// or https://")
        parts = urlsplit(f"//{value}" if bare else value)
        try:
            _ = parts.port
        except ValueError:
            raise ValueError("its port is not a number from 0 to 65535") from None
        if not parts.hostname or any(c.isspace() for c in value):
            raise ValueError("it must name a host, and contain no blanks")
        return value

    @field_validator("sdk_disabled", mode="before")
    @classmethod
    def _boolean(cls, value: object) -> object:
        """Refuse words other than `true` and `false`, as the specification does: the SDK then stays enabled."""
        if isinstance(value, str) and value.strip().lower() not in ("true", "false"):
            raise ValueError("it must be true or false")
        return value

    @field_validator("otlp_headers", "otlp_traces_headers", "otlp_metrics_headers", "otlp_logs_headers")
    @classmethod
    def _parseable(cls, value: SecretStr | None) -> SecretStr | None:
        check_headers(value)
        return value

    def exports(self, signal: Signal) -> bool:
        """Whether `signal` is exported: it has an endpoint and is not switched off."""
        return self.endpoint(signal) is not None

    def other_exporters(self, signal: Signal) -> tuple[str, ...]:
        """The exporters of `signal` beside OTLP, by their names."""
        named = [name.strip() for name in cast("str", getattr(self, f"{signal}_exporter")).split(",")]
        if self.sdk_disabled:
            return ()
        return tuple(dict.fromkeys(name for name in named if name not in ("", "none") and not name.startswith("otlp")))

    def endpoint(self, signal: Signal) -> str | None:
        """The endpoint of `signal`, None where it is not exported.

        Over HTTP the common endpoint gets the path of the signal, such as `/v1/traces`.
        """
        chosen = getattr(self, f"{signal}_exporter").split(",")
        if self.sdk_disabled or not any(name.strip().startswith("otlp") for name in chosen):
            return None
        own = cast("str | None", getattr(self, f"otlp_{signal}_endpoint"))
        if own or self.otlp_endpoint is None or self.protocol(signal) == "grpc":
            return own or self.otlp_endpoint
        return f"{self.otlp_endpoint.rstrip('/')}/v1/{signal}"

    def protocol(self, signal: Signal) -> Protocol:
        """The OTLP protocol of `signal`."""
        return cast("Protocol", getattr(self, f"otlp_{signal}_protocol") or self.otlp_protocol)

    def compression(self, signal: Signal) -> Compression:
        """The compression of `signal`'s exports."""
        return cast("Compression", getattr(self, f"otlp_{signal}_compression") or self.otlp_compression)

    def tls_file(self, signal: Signal, kind: TlsFile) -> Path | None:
        """A file of `signal`'s connection over TLS."""
        return cast("Path | None", getattr(self, f"otlp_{signal}_{kind}") or getattr(self, f"otlp_{kind}"))

    def headers(self, signal: Signal) -> str:
        """The headers of `signal`'s exports as comma-separated name=value pairs; they may contain secrets."""
        secret = cast("SecretStr | None", getattr(self, f"otlp_{signal}_headers") or self.otlp_headers)
        return secret.get_secret_value() if secret is not None else ""
