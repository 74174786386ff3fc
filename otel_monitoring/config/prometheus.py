"""`PrometheusSettings`: the Prometheus that answers for the whole service, and evaluates its rules."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, FilePath, FiniteFloat, SecretStr, ValidationInfo, field_validator

from otel_monitoring.config.channels import check_web_address
from otel_monitoring.config.otlp import check_headers

_Seconds = Annotated[FiniteFloat, Field(gt=0)]


class PrometheusSettings(BaseModel):
    """Where Prometheus, Mimir, Thanos or VictoriaMetrics is asked; `OTEL_MONITORING_PROMETHEUS_…`."""

    model_config = ConfigDict(defer_build=True)  # of use as a part of `Settings` alone

    prometheus_url: SecretStr | None = None
    """The URL before `/api/v1`; `user:password@` is basic authentication. None: the service answers for itself."""
    prometheus_headers: SecretStr | None = None
    """Further headers of every question, as `name=value` pairs: a bearer token, a tenant."""
    prometheus_certificate: FilePath | None = None
    prometheus_client_certificate: FilePath | None = None
    prometheus_client_key: FilePath | None = None
    """None: `prometheus_client_certificate` has the key, too."""
    prometheus_timeout: Annotated[_Seconds, Field(le=60)] = 2.0
    prometheus_range: Annotated[_Seconds, Field(ge=60, le=366 * 86_400)] = 3600.0
    """Seconds. Totals count since the last multiple of it but one: one to two of it before now."""

    @field_validator("prometheus_url")
    @classmethod
    def _of_the_web(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_web_address(value.get_secret_value())
        return value

    @field_validator("prometheus_headers")
    @classmethod
    def _pairs(cls, value: SecretStr | None) -> SecretStr | None:
        check_headers(value)
        return value

    @field_validator("prometheus_client_key")
    @classmethod
    def _beside_a_certificate(cls, value: FilePath | None, info: ValidationInfo) -> FilePath | None:
        if value is not None and info.data.get("prometheus_client_certificate") is None:
            raise ValueError("it is the key of OTEL_MONITORING_PROMETHEUS_CLIENT_CERTIFICATE, which is not set")
        return value
