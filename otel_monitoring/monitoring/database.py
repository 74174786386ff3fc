"""`WatchedDatabase`: the service's database, instrumented and checked; another one may take its place."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.guard import logger
from otel_monitoring.health.database import DatabaseHealthChecker
from otel_monitoring.runtime.threads import in_thread
from otel_monitoring.telemetry.providers import Telemetry

if TYPE_CHECKING:
    from otel_monitoring.instrumentation.mongodb.instrumentation import MongoInstrumentation


_MAX_INTERVALS = 2.5
_MAX_TIMEOUTS = 3.0
"""Check intervals, and time limits of one check, after which a ping is out of date."""


@dataclass(frozen=True)
class Later:
    """A database that there is no handle for yet.

    Attributes:
        make: Makes it; blocks, and raises ConnectionError while it cannot.
        why: Why there is none.
    """

    make: Callable[[], Any]
    why: str


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
        self._later: Later | None = None
        self._instrumentation: MongoInstrumentation | None = None
        self.checker = DatabaseHealthChecker(
            None,
            check_timeout=settings.check_timeout,
            max_collections=settings.max_collections,
            slow_ms=settings.thresholds.database_response_time_ms,
            max_age=_MAX_INTERVALS * settings.check_interval + _MAX_TIMEOUTS * settings.check_timeout,
        )

    def use(self, db: Any) -> None:
        """Measure and check `db`, and no other database, from now on; None: none. A `Later` is waited for."""
        self.detach()
        self._later = db if isinstance(db, Later) else None
        self._db = None if self._later is not None else db
        self._instrumentation = self._instrument()
        self.checker.use(self._db, self._instrumentation.state if self._instrumentation is not None else None)
        if self._later is not None:
            self.checker.missing(self._later.why)

    async def look_for_it(self) -> None:
        """Try to make the handle, where there is none yet."""
        later = self._later
        if later is None:
            return
        try:
            db = await in_thread(later.make, name="otel-monitoring-database")
        except ConnectionError as error:
            if self._later is later:
                self.checker.missing(str(error))
        else:
            if self._later is later:
                self.use(db)

    def attach(self) -> None:
        """After `detach`, or in a process that was forked: measure it again."""
        if self._instrumentation is not None:
            self._instrumentation.attach(self._db)
            self._instrumentation.instrument_new_clients()

    def measure_client(self, client: object) -> None:
        """Measure the commands and pools of a client that was made before the database was watched."""
        if self._instrumentation is not None:
            self._instrumentation.measure(client)

    def detach(self) -> None:
        """Stop measuring; the last state stays readable."""
        if self._instrumentation is not None:
            self._instrumentation.detach()

    def _instrument(self) -> "MongoInstrumentation | None":
        if self._db is None:
            return None
        from otel_monitoring.instrumentation.mongodb.instrumentation import attach

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


def check_database_setting(settings: Settings) -> None:
    """Nothing, where `database_of` has nothing against `OTEL_MONITORING_DATABASE_URI`; nobody is asked for it.

    Raises:
        ConfigurationError: The setting cannot work, or PyMongo is not installed.
    """
    if settings.database_uri is None:
        return
    try:
        from otel_monitoring.instrumentation.mongodb.connection import check_uri
    except ImportError as error:
        raise ConfigurationError(
            "OTEL_MONITORING_DATABASE_URI: needs PyMongo: pip install 'otel-monitoring[mongodb]'"
        ) from error
    check_uri(settings.database_uri.get_secret_value())


def database_of(settings: Settings) -> Any:
    """A handle of our own for `OTEL_MONITORING_DATABASE_URI`, or None; it connects with the first check.

    Where what the setting names is not there yet, a `Later`: that is no reason not to start.

    Raises:
        ConfigurationError: The setting cannot work, or PyMongo is not installed.
    """
    if settings.database_uri is None:
        return None
    check_database_setting(settings)
    from otel_monitoring.instrumentation.mongodb.connection import database_at, needs_a_name

    uri = settings.database_uri.get_secret_value()
    make = partial(database_at, uri, timeout=settings.check_timeout)
    if needs_a_name(uri):
        return Later(make, "its name is not resolved yet")
    try:
        return make()
    except ConnectionError as error:
        logger.warning("OTEL_MONITORING_DATABASE_URI: %s; it is tried again with every check", str(error))
        return Later(make, str(error))
