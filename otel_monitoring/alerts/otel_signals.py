"""`AlertSignals`: what OpenTelemetry hears about alerts: a counter, a log event for each, and what became of them."""

from opentelemetry.metrics import MeterProvider, NoOpMeterProvider

from otel_monitoring import semconv as c
from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, Status
from otel_monitoring.guard import fail_open
from otel_monitoring.telemetry.logs_api import LoggerProvider, NoOpLoggerProvider, SeverityNumber

EVENT_NAME = "otel_monitoring.alert"

_SEVERITY = {
    AlertSeverity.INFO: SeverityNumber.INFO,
    AlertSeverity.WARNING: SeverityNumber.WARN,
    AlertSeverity.ERROR: SeverityNumber.ERROR,
    AlertSeverity.CRITICAL: SeverityNumber.FATAL,
}
_telling = fail_open("telling OpenTelemetry about an alert")


class AlertSignals:
    """Metrics and log events of alerts.

    Args:
        meters: Where the counters are made; nowhere when not given.
        loggers: Where the log events go; nowhere when not given.
    """

    def __init__(self, meters: MeterProvider | None = None, loggers: LoggerProvider | None = None) -> None:
        meter = (meters or NoOpMeterProvider()).get_meter(c.SCOPE, schema_url=c.SCHEMA_URL)
        self._logger = (loggers or NoOpLoggerProvider()).get_logger(c.SCOPE, schema_url=c.SCHEMA_URL)
        self._alerts = meter.create_counter(c.ALERTS, "{alert}", "Alerts that were raised or resolved.")
        self._outcomes = {
            "sent": meter.create_counter(c.NOTIFICATIONS_SENT, "{alert}", "Alerts that a channel delivered."),
            "failed": meter.create_counter(c.NOTIFICATIONS_FAILED, "{alert}", "Alerts that were given up."),
            "retried": meter.create_counter(c.NOTIFICATIONS_RETRIED, "{alert}", "Alerts that will be tried again."),
        }

    def raised(self, event: AlertEvent) -> None:
        """An alert was raised or resolved; call it where that happened, in the context of its request if it had one."""
        attributes = {
            c.ALERT_TYPE: event.type.value,
            c.ALERT_SEVERITY: event.severity.value,
            c.ALERT_STATUS: event.status.value,
            c.ALERT_OUTCOME: event.outcome.value,
        }
        severity = _SEVERITY[event.severity if event.status is Status.FIRING else AlertSeverity.INFO]
        with _telling:
            self._alerts.add(1, attributes)
            self._logger.emit(
                timestamp=int(event.time * 1e9),
                severity_number=severity,
                severity_text=severity.name,
                body=event.message,
                attributes={
                    **attributes,
                    **({"otel_monitoring.alert.rule": event.rule} if event.rule else {}),
                    **{f"otel_monitoring.alert.label.{key}": value for key, value in event.labels.items()},
                },
                event_name=EVENT_NAME,
            )

    def count(self, what: str, channel: str, number: int) -> None:
        """`number` alerts were `sent` by a channel, `failed` for good, or will be `retried`."""
        with _telling:
            self._outcomes[what].add(number, {c.CHANNEL: channel})
