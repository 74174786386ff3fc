"""`PrometheusSettings`: the Prometheus that answers for the whole service, and evaluates its rules."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from otel_monitoring.config.setting import Section, setting
from otel_monitoring.config.values import file, number, secret_headers, secret_web_address


def _beside_a_certificate(value: Path, others: Mapping[str, object]) -> Path:
    if others.get("prometheus_client_certificate") is None:
        raise ValueError("it is the key of OTEL_MONITORING_PROMETHEUS_CLIENT_CERTIFICATE, which is not set")
    return value


class PrometheusSettings(Section):
    """Where Prometheus, Mimir, Thanos or VictoriaMetrics is asked; `OTEL_MONITORING_PROMETHEUS_…`."""

    prometheus_url: SecretStr | None = setting(None, secret_web_address)
    """The URL before `/api/v1`; `user:password@` is basic authentication. None: the service answers for itself."""
    prometheus_headers: SecretStr | None = setting(None, secret_headers)
    """Further headers of every question, as `name=value` pairs: a bearer token, a tenant."""
    prometheus_certificate: Path | None = setting(None, file)
    prometheus_client_certificate: Path | None = setting(None, file)
    prometheus_client_key: Path | None = setting(None, file, beside=_beside_a_certificate)
    """None: `prometheus_client_certificate` has the key, too."""
    prometheus_timeout: float = setting(2.0, partial(number, above=0, most=60, unit="seconds"))
    prometheus_range: float = setting(3600.0, partial(number, least=60, most=366 * 86_400, unit="seconds"))
    """Seconds. Totals count since the last multiple of it but one: one to two of it before now."""
