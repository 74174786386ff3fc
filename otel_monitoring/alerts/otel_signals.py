"""`AlertSignals`: alerts as OpenTelemetry metrics and log events."""

from opentelemetry.metrics import MeterProvider, NoOpMeterProvider

from otel_monitoring import semconv as c
from otel_monitoring.alerts.model import AlertEvent, AlertSeverity, Status
from otel_monitoring.guard import fail_open
from otel_monitoring.telemetry.logs_api import LoggerProvider, NoOpLoggerProvider, SeverityNumber

_SEVERITY = {
    AlertSeverity.INFO: SeverityNumber.INFO,
    AlertSeverity.WARNING: SeverityNumber.WARN,
    AlertSeverity.ERROR: SeverityNumber.ERROR,
    AlertSeverity.CRITICAL: SeverityNumber.FATAL,
}
_recording = fail_open("recording an alert with OpenTelemetry")


class AlertSignals:
    """Counters of alerts and of notifications, and one log event for each alert.

    Args:
        meters: Makes the counters; None: alerts are not counted.
        loggers: Emits the log events; None: there are none.
    """

    def __init__(self, meters: MeterProvider | None = None, loggers: LoggerProvider | None = None) -> None:
        meter = (meters or NoOpMeterProvider()).get_meter(c.SCOPE, schema_url=c.SCHEMA_URL)
        self._logger = (loggers or NoOpLoggerProvider()).get_logger(c.SCOPE, schema_url=c.SCHEMA_URL)
        self._alerts = meter.create_counter(c.ALERTS, "{alert}", "Alerts that were raised or resolved.")
        self._maintenance = meter.create_up_down_counter(c.MAINTENANCE, "{window}", "Planned windows that are open.")
        self._windows = 0
        self._outcomes = {
            "sent": meter.create_counter(c.NOTIFICATIONS_SENT, "{alert}", "Alerts that a channel delivered."),
            "failed": meter.create_counter(c.NOTIFICATIONS_FAILED, "{alert}", "Alerts that were given up."),
            "retried": meter.create_counter(c.NOTIFICATIONS_RETRIED, "{alert}", "Alerts that will be tried again."),
        }

    def maintenance(self, windows: int) -> None:
        """Say how many planned windows are open, in the process that evaluates; in any other none is."""
        with _recording:
            self._maintenance.add(windows - self._windows)
            self._windows = windows

    def raised(self, event: AlertEvent) -> None:
        """Count an alert that fires or resolves, and emit its log event, in the current context of OpenTelemetry."""
        attributes = {
            c.ALERT_TYPE: event.type.value,
            c.ALERT_SEVERITY: event.severity.value,
            c.ALERT_STATUS: event.status.value,
            c.ALERT_OUTCOME: event.outcome.value,
        }
        severity = _SEVERITY[event.severity if event.status is Status.FIRING else AlertSeverity.INFO]
        with _recording:
            self._alerts.add(1, attributes)
            self._logger.emit(
                timestamp=int(event.time * 1e9),
                severity_number=severity,
                severity_text=severity.name,
                body=event.message,
                attributes={
                    **attributes,
                    **({c.ALERT_RULE: event.rule} if event.rule else {}),
                    **{f"{c.ALERT_LABEL}.{key}": value for key, value in event.labels.items()},
                },
                event_name=c.ALERT_EVENT,
            )

    def count(self, what: str, channel: str, number: int) -> None:
        """Count notifications.

        Args:
            what: `sent`, `failed` (given up) or `retried`.
            channel: The channel's name.
            number: How many alerts.
        """
        with _recording:
            self._outcomes[what].add(number, {c.CHANNEL: channel})
