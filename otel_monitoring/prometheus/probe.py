"""`probe`: whether Prometheus answers, has this package's metrics and rules, and notifies an Alertmanager."""

from collections.abc import Sequence
from dataclasses import dataclass

from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import MonitoringError
from otel_monitoring.prometheus.client import Connection, Server
from otel_monitoring.prometheus.questions import Gauges
from otel_monitoring.redact import redact
from otel_monitoring.semconv import HTTP_SERVER_REQUEST_DURATION, prometheus_name


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What was found.

    Attributes:
        failure: Why there is no answer; None: there is one.
        clock: Seconds by which its clock is ahead of `now`.
        processes: How many processes of any service it has the metrics of.
        native: Whether it has native histograms of requests; None: it has none of either form.
        rules: How many values of exported rules it has.
        alertmanagers: How many Alertmanagers it notifies; None: it does not say.
    """

    failure: str | None
    clock: float = 0.0
    processes: int = 0
    native: bool | None = None
    rules: int = 0
    alertmanagers: int | None = None


async def probe(settings: Settings, now: float) -> ProbeResult:
    """Ask the Prometheus of `settings`; `now` is Unix time in seconds."""
    try:
        return await Server.of_prometheus(settings).ask(lambda connection: _probe(connection, now))
    except MonitoringError as error:
        return ProbeResult(redact(str(error)))


async def _probe(connection: Connection, now: float) -> ProbeResult:
    clock = await connection.now() - now
    name = prometheus_name(HTTP_SERVER_REQUEST_DURATION, "s")
    processes = await connection.query(f"count({Gauges.UPTIME})")
    forms = await connection.query(f'group by (__name__) ({{__name__=~"{name}(_bucket)?"}})')
    names = {sample["metric"].get("__name__") for sample in forms}
    rules = await connection.query('count({__name__=~"otel_monitoring:.+"})')
    return ProbeResult(
        None,
        clock,
        _count(processes),
        name in names if names else None,
        _count(rules),
        await notified(connection),
    )


async def notified(connection: Connection) -> int | None:
    """How many Alertmanagers it notifies; None: its API does not say, as that of Mimir and VictoriaMetrics."""
    try:
        answer = await connection.ask("GET", "api/v1/alertmanagers")
        return len(answer["data"]["activeAlertmanagers"])
    except (MonitoringError, LookupError, TypeError):
        return None


def _count(samples: Sequence[object]) -> int:
    found = samples[0] if samples else None
    return round(float(found["value"][1])) if isinstance(found, dict) else 0
