"""`WatchedDatabase`: the one database of a service, instrumented and checked; it may be replaced by another."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from otel_monitoring.config import Settings
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.health.database import DatabaseHealthChecker
from otel_monitoring.telemetry import Telemetry

if TYPE_CHECKING:
    from otel_monitoring.instrument.mongodb import MongoInstrumentation


_MAX_INTERVALS = 2.5
_MAX_TIMEOUTS = 3.0
"""Intervals, and time limits of the ping and the reading between two pings, after which a ping says nothing more."""


class WatchedDatabase:
    """Measures a database's commands and pools, and checks its health. Without a database it does neither.

    Args:
        settings: How it is measured and checked.
        telemetry: Where spans and metrics go.
        noticed: Called, in a driver's thread, when the driver noticed something that is worth a ping.

    Attributes:
        checker: The state of the database.
    """

    def __init__(self, settings: Settings, telemetry: Telemetry, noticed: Callable[[], object]) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self._noticed = noticed
        self._db: Any = None
        self._instrumentation: MongoInstrumentation | None = None
        self.checker = DatabaseHealthChecker(
            None,
            check_timeout=settings.check_timeout,
            max_collections=settings.max_collections,
            slow_ms=settings.thresholds.database_response_time_ms,
            max_age=_MAX_INTERVALS * settings.check_interval + _MAX_TIMEOUTS * settings.check_timeout,
        )

    def watch(self, db: Any) -> None:
        """Measure and check `db`, and no other database, from now on; None: none."""
        self.leave()
        self._db = db
        self._instrumentation = self._instrument()
        self.checker.use(db, self._instrumentation.state if self._instrumentation is not None else None)

    def resume(self) -> None:
        """After `leave`, or in a process that was forked: measure it again."""
        if self._instrumentation is not None:
            self._instrumentation.attach(self._db)
            self._instrumentation.instrument_new_clients()

    def measure_client(self, client: object) -> None:
        """Measure the commands and pools of a client that was made before the database was watched."""
        if self._instrumentation is not None:
            self._instrumentation.measure(client)

    def leave(self) -> None:
        """Measure nothing any more; what was found stays readable."""
        if self._instrumentation is not None:
            self._instrumentation.detach()

    def _instrument(self) -> "MongoInstrumentation | None":
        if self._db is None:
            return None
        from otel_monitoring.instrument.mongodb import attach

        telemetry, settings = self._telemetry, self._settings
        instrumentation = attach(
            self._db,
            tracer_provider=telemetry.tracer_provider if telemetry.tracing else None,
            meter_provider=telemetry.meter_provider,
            capture_statement=settings.capture_statement,
            statement_max_length=settings.statement_max_length,
            max_collections=settings.max_collections,
        )
        instrumentation.state.on_change = self._noticed
        instrumentation.instrument_new_clients()
        return instrumentation


def database_of(settings: Settings) -> Any:
    """A handle of our own for `OTEL_MONITORING_DATABASE_URI`, or None; it connects with the first check.

    Raises:
        ConfigurationError: PyMongo is not installed.
    """
    if settings.database_uri is None:
        return None
    try:
        from otel_monitoring.instrument.mongodb.connection import database_at
    except ImportError as error:
        raise ConfigurationError(
            "OTEL_MONITORING_DATABASE_URI: needs PyMongo: pip install 'otel-monitoring[mongodb]'"
        ) from error
    return database_at(settings.database_uri.get_secret_value(), timeout=settings.check_timeout)
