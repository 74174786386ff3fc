"""`OtlpSettings`: the variables of OpenTelemetry that this package reads or checks.

Names and precedence are those of the OpenTelemetry specification
(https://opentelemetry.io/docs/specs/otel/protocol/exporter/): a signal's own variable wins over the common one.
Variables that are absent here, such as `OTEL_TRACES_SAMPLER`, are read by the SDK alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final, Literal, cast
from urllib.parse import urlsplit

from pydantic import SecretStr

from otel_monitoring.config.setting import Section, setting
from otel_monitoring.config.values import (
    boolean,
    choice,
    file,
    number,
    secret_headers,
    text,
    whole,
)
from otel_monitoring.environment import MOST_SECONDS, warn_once

Signal = Literal["traces", "metrics", "logs"]
Protocol = Literal["http/protobuf", "grpc"]
Compression = Literal["gzip", "deflate", "none"]
LogLevel = Literal["debug", "info", "warn", "warning", "error", "fatal", "none"]
ExemplarFilter = Literal["always_on", "always_off", "trace_based"]
TlsFile = Literal["certificate", "client_key", "client_certificate"]

CONFIG_FILE: Final = "OTEL_CONFIG_FILE"
"""The variable of OpenTelemetry's declarative configuration: see `ConfigurationFile`."""
OWN_SECTION: Final = f"{CONFIG_FILE}: distribution.otel_monitoring"
"""What messages call the section of that file that has our settings."""
SIGNALS: Final[tuple[Signal, ...]] = ("traces", "metrics", "logs")

_READ_BY_THE_SDK: Final = ("_timeout", "certificate", "_client_key", "_size", "_schedule_delay", "_exemplar_filter")
"""The ends of the names of settings that the SDK's parts read from the environment when they are made."""
_QUEUE: Final = 2048
_BATCH: Final = 512
"""The SDK's own defaults of a queue and of what leaves it at once."""


def _true_or_false(given: object) -> object:
    """Refuse words other than `true` and `false`, as the specification does: the SDK then stays enabled."""
    if isinstance(given, str) and given.lower() not in ("true", "false"):
        raise ValueError("it must be true or false")
    return given


def _path_text(given: object) -> str:
    return text(os.fspath(given) if isinstance(given, os.PathLike) else given)


def _exporters(given: object) -> str:
    return text(given).lower()


def _reachable(value: str, others: Mapping[str, object], signals: tuple[Signal, ...] = SIGNALS) -> str:
    """Check the endpoint of these signals."""
    common = others.get("otlp_protocol")
    protocols = {others.get(f"otlp_{signal}_protocol") or common for signal in signals}
    bare = "://" not in value and protocols == {"grpc"}  # gRPC also takes host:port
    if not bare and not value.lower().startswith(("http://", "https://")):
        raise ValueError("it must be a URL that starts with http:// or https://")
    try:
        parts = urlsplit(f"//{value}" if bare else value)
    except ValueError:  # its text may quote a password
        raise ValueError("it must be a URL") from None
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("its port is not a number from 0 to 65535") from None
    if not parts.hostname or any(c.isspace() for c in value):
        raise ValueError("it must name a host, and contain no blanks")
    return value


def _is_otlp(exporter: str) -> bool:
    """Whether a name is that of OTLP, also by a protocol as the SDK has it; `otlp/stdout` is another exporter."""
    return exporter == "otlp" or exporter.startswith("otlp_proto_")


def _variable(name: str) -> str:
    """`OTEL_EXPORTER_OTLP_ENDPOINT` for `otlp_endpoint`, `OTEL_SERVICE_NAME` for `service_name`."""
    return f"OTEL_{'EXPORTER_' if name.startswith('otlp_') else ''}{name.upper()}"


_PROTOCOL = choice(Protocol)
_COMPRESSION = choice(Compression)
_SECONDS = partial(number, above=0, most=MOST_SECONDS)
_MILLISECONDS = partial(number, above=0, most=1000 * MOST_SECONDS)
_WHOLE_MILLISECONDS = partial(whole, least=1, most=1000 * MOST_SECONDS)
_COUNT = partial(whole, least=1, most=sys.maxsize)


class OtlpSettings(Section, variable=_variable):
    """Which signals are exported, where to, and how."""

    config_file: str | None = setting(None, _path_text)
    """The file of the declarative configuration that is in force."""
    service_name: str | None = setting(None, text)
    sdk_disabled: bool = setting(False, _true_or_false, boolean)
    """Measure, trace and export nothing. The health endpoints answer from the checks alone."""

    traces_exporter: str = setting("otlp", _exporters)
    """Exporters, comma-separated: `otlp`, `console`, others that are installed; `none` for none."""
    metrics_exporter: str = setting("otlp", _exporters)
    logs_exporter: str = setting("otlp", _exporters)

    # The protocols stand before the endpoints, because the protocol decides whether an endpoint needs a scheme.
    otlp_protocol: Protocol = setting("http/protobuf", _PROTOCOL)
    otlp_traces_protocol: Protocol | None = setting(None, _PROTOCOL)
    otlp_metrics_protocol: Protocol | None = setting(None, _PROTOCOL)
    otlp_logs_protocol: Protocol | None = setting(None, _PROTOCOL)

    otlp_endpoint: str | None = setting(None, text, beside=_reachable)
    otlp_traces_endpoint: str | None = setting(None, text, beside=partial(_reachable, signals=("traces",)))
    otlp_metrics_endpoint: str | None = setting(None, text, beside=partial(_reachable, signals=("metrics",)))
    otlp_logs_endpoint: str | None = setting(None, text, beside=partial(_reachable, signals=("logs",)))

    otlp_compression: Compression = setting("gzip", _COMPRESSION)
    otlp_traces_compression: Compression | None = setting(None, _COMPRESSION)
    otlp_metrics_compression: Compression | None = setting(None, _COMPRESSION)
    otlp_logs_compression: Compression | None = setting(None, _COMPRESSION)

    otlp_headers: SecretStr | None = setting(None, secret_headers)
    otlp_traces_headers: SecretStr | None = setting(None, secret_headers)
    otlp_metrics_headers: SecretStr | None = setting(None, secret_headers)
    otlp_logs_headers: SecretStr | None = setting(None, secret_headers)

    metric_export_interval: float = setting(60_000.0, _MILLISECONDS)
    """Milliseconds between metric exports."""

    # Read by the SDK: see `variables`. They are checked here, so that a wrong value is reported by its variable.
    otlp_timeout: float | None = setting(None, _SECONDS)
    otlp_traces_timeout: float | None = setting(None, _SECONDS)
    otlp_metrics_timeout: float | None = setting(None, _SECONDS)
    otlp_logs_timeout: float | None = setting(None, _SECONDS)
    otlp_certificate: Path | None = setting(None, file)
    otlp_client_key: Path | None = setting(None, file)
    otlp_client_certificate: Path | None = setting(None, file)
    otlp_traces_certificate: Path | None = setting(None, file)
    otlp_traces_client_key: Path | None = setting(None, file)
    otlp_traces_client_certificate: Path | None = setting(None, file)
    otlp_metrics_certificate: Path | None = setting(None, file)
    otlp_metrics_client_key: Path | None = setting(None, file)
    otlp_metrics_client_certificate: Path | None = setting(None, file)
    otlp_logs_certificate: Path | None = setting(None, file)
    otlp_logs_client_key: Path | None = setting(None, file)
    otlp_logs_client_certificate: Path | None = setting(None, file)
    bsp_max_queue_size: int | None = setting(None, _COUNT)
    bsp_max_export_batch_size: int | None = setting(None, _COUNT)
    bsp_schedule_delay: int | None = setting(None, _WHOLE_MILLISECONDS)
    bsp_export_timeout: int | None = setting(None, _WHOLE_MILLISECONDS)
    blrp_max_queue_size: int | None = setting(None, _COUNT)
    blrp_max_export_batch_size: int | None = setting(None, _COUNT)
    blrp_schedule_delay: int | None = setting(None, _WHOLE_MILLISECONDS)
    blrp_export_timeout: int | None = setting(None, _WHOLE_MILLISECONDS)
    log_level: LogLevel | None = setting(None, choice(LogLevel))
    """The lowest level that the SDK's own loggers log."""
    metric_export_timeout: float | None = setting(None, _MILLISECONDS)
    metrics_exemplar_filter: ExemplarFilter | None = setting(None, choice(ExemplarFilter))

    def variables(self) -> dict[str, str]:
        """The variables that the SDK's parts read when they are made, wherever they were set."""
        found = {
            own.variables[0]: str(value)
            for name, own in OtlpSettings.fields.items()
            if name.endswith(_READ_BY_THE_SDK) and (value := getattr(self, name)) is not None
        }
        for queue in ("bsp", "blrp"):  # the SDK refuses batches that are larger than the queue
            most = getattr(self, f"{queue}_max_queue_size") or _QUEUE
            batch = getattr(self, f"{queue}_max_export_batch_size")
            if (batch or _BATCH) > most:
                name = f"OTEL_{queue.upper()}_MAX_EXPORT_BATCH_SIZE"
                found[name] = str(most)
                if batch is not None:
                    warn_once(f"{name}: it must not be more than OTEL_{queue.upper()}_MAX_QUEUE_SIZE; {most} is used")
        return found

    def exports(self, signal: Signal) -> bool:
        """Whether `signal` is exported: it has an endpoint and is not switched off."""
        return self.endpoint(signal) is not None

    def other_exporters(self, signal: Signal) -> tuple[str, ...]:
        """The exporters of `signal` beside OTLP, by their names."""
        named = [name.strip() for name in cast("str", getattr(self, f"{signal}_exporter")).split(",")]
        if self.sdk_disabled:
            return ()
        return tuple(dict.fromkeys(name for name in named if name not in ("", "none") and not _is_otlp(name)))

    def endpoint(self, signal: Signal) -> str | None:
        """The endpoint of `signal`, None where it is not exported.

        Over HTTP the common endpoint gets the path of the signal, such as `/v1/traces`.
        """
        chosen = getattr(self, f"{signal}_exporter").split(",")
        if self.sdk_disabled or not any(_is_otlp(name.strip()) for name in chosen):
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
