"""`MonitoredDatabase`: the service's one database, measured and checked; another database may take its place."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_monitoring.alerts.store.application_database import ApplicationDatabase
from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.guard import logger
from otel_monitoring.health.database import DatabaseHealthChecker
from otel_monitoring.metrics.direct_histogram import DirectHistogram
from otel_monitoring.runtime.threads import in_thread
from otel_monitoring.seams import LostError
from otel_monitoring.telemetry.providers import Telemetry

if TYPE_CHECKING:
    from otel_monitoring.instrumentation.mongodb.instrumentation import MongoInstrumentation


_MAX_INTERVALS = 2.5
_MAX_TIMEOUTS = 3.0
"""A ping is out of date after this many check intervals plus this many time limits of one check."""
_MAX_PAUSE_INTERVALS = 6.0
"""The collections are read at least once in so many check intervals."""


class PendingDatabase(NamedTuple):
    """A database that cannot have a handle yet, because its name does not resolve.

    Attributes:
        make: Makes the handle; blocks, and raises ConnectionError while it cannot.
        why: Why there is no handle.
    """

    make: Callable[[], Any]
    why: str


class MonitoredDatabase:
    """Measures a database's commands and pools, and checks its health. Without a database it does neither.

    Args:
        settings: How the database is measured and checked.
        telemetry: The providers of its spans and metrics.
        direct: Returns the aggregator's histogram of a name.
        noticed: Called in a thread of the driver when the driver noticed a failure or a recovery.

    Attributes:
        checker: The state of the database.
    """

    def __init__(
        self,
        settings: Settings,
        telemetry: Telemetry,
        direct: Callable[[str], DirectHistogram],
        noticed: Callable[[], object],
    ) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self._direct = direct
        self._noticed = noticed
        self._db: Any = None
        self._pending: PendingDatabase | None = None
        self._instrumentation: MongoInstrumentation | None = None
        self.checker = DatabaseHealthChecker(
            None,
            check_timeout=settings.check_timeout,
            max_collections=settings.max_collections,
            slow_ms=settings.thresholds.database_response_time_ms,
            max_age=_MAX_INTERVALS * settings.check_interval + _MAX_TIMEOUTS * settings.check_timeout,
            max_pause=_MAX_PAUSE_INTERVALS * settings.check_interval,
        )

    def use(self, db: Any) -> None:
        """Measure and check `db`, and no other database, from now on.

        Args:
            db: A handle; a `PendingDatabase`, whose handle is made when it can be; None: no database.
        """
        self.detach()
        self._pending = db if isinstance(db, PendingDatabase) else None
        self._db = None if self._pending is not None else db
        self._instrumentation = self._instrument()
        self.checker.use(self._db, self._instrumentation.state if self._instrumentation is not None else None)
        if self._pending is not None:
            self.checker.set_missing(self._pending.why)

    @property
    def application_database(self) -> ApplicationDatabase | None:
        """The database that is monitored, for the alert store; None: there is none yet."""
        return application_database(self._db)

    async def make_pending(self) -> None:
        """Try to make the handle of a pending database."""
        pending = self._pending
        if pending is None:
            return
        try:
            db = await in_thread(pending.make, name="otel-monitoring-database")
        except ConnectionError as error:
            if self._pending is pending:
                self.checker.set_missing(str(error))
        else:
            if self._pending is pending:  # another database may have taken its place meanwhile
                self.use(db)

    def attach(self) -> None:
        """Measure again, after `detach` or in a forked process."""
        if self._instrumentation is not None:
            self._instrumentation.attach(self._db)
            self._instrumentation.instrument_new_clients()

    def measure_client(self, client: object) -> None:
        """Measure the commands and pools of a client that was made before the database was instrumented."""
        if self._instrumentation is not None:
            self._instrumentation.measure(client)

    def detach(self) -> None:
        """Stop measuring; the last results stay readable."""
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
            direct=self._direct,
            capture_statement=settings.capture_statement,
            statement_max_length=settings.statement_max_length,
            max_collections=settings.max_collections,
            trace_comments=settings.trace_comments,
        )
        instrumentation.state.on_change = self._noticed
        instrumentation.instrument_new_clients()
        return instrumentation


def check_database_setting(settings: Settings) -> None:
    """Check `OTEL_MONITORING_DATABASE_URI` without connecting or resolving a name.

    Raises:
        ConfigurationError: The setting cannot work, or PyMongo is not installed.
    """
    if settings.database_uri is None:
        return
    try:
        from otel_monitoring.instrumentation.mongodb.own_client import check_uri
    except ImportError as error:
        raise ConfigurationError(
            "OTEL_MONITORING_DATABASE_URI: needs PyMongo: pip install 'otel-monitoring[mongodb]'"
        ) from error
    check_uri(settings.database_uri.get_secret_value())


def check_store_setting(settings: Settings, db: Any) -> None:
    """Check where `OTEL_MONITORING_STORE=mongodb` has its database, without connecting.

    Args:
        settings: The settings.
        db: The handle of the application's database; None: it has none, or not yet.

    Raises:
        ConfigurationError: A setting cannot work, PyMongo is not installed, or no client can be made like that of `db`.
    """
    if settings.store != "mongodb":
        return
    try:
        from otel_monitoring.alerts.store.mongodb.client import options_of
        from otel_monitoring.instrumentation.mongodb.own_client import check_uri
    except ImportError as error:
        raise ConfigurationError(
            "OTEL_MONITORING_STORE=mongodb: needs PyMongo: pip install 'otel-monitoring[mongodb]'"
        ) from error
    if settings.store_uri is not None:
        check_uri(settings.store_uri.get_secret_value(), setting="OTEL_MONITORING_STORE_URI")
    elif db is not None:
        found = application_database(db)
        try:
            if found is not None:
                options_of(found.client)
                return
        except LostError as error:
            raise ConfigurationError(f"OTEL_MONITORING_STORE=mongodb: {error}") from error
        raise ConfigurationError(
            f"OTEL_MONITORING_STORE=mongodb: {type(db).__name__} is no PyMongo or Motor handle: "
            "set OTEL_MONITORING_STORE_URI"
        )


def application_database(db: Any) -> ApplicationDatabase | None:
    """The client and the name of a database handle; None: it is no handle of PyMongo's or Motor's."""
    if db is None:
        return None
    from otel_monitoring.instrumentation.mongodb.pymongo_seam import client_of

    client = client_of(db)
    if client is None:
        return None
    inner = getattr(db, "__dict__", {}).get("delegate", db)
    database = client.get_default_database(default="admin") if inner is client else inner
    return ApplicationDatabase(client, str(database.name))


def database_of(settings: Settings) -> Any:
    """A handle of our own for `OTEL_MONITORING_DATABASE_URI`, None without the setting.

    The handle connects with the first check. A name or file that is not there yet keeps no service from starting: the
    result is then a `PendingDatabase`.

    Raises:
        ConfigurationError: The setting cannot work, or PyMongo is not installed.
    """
    if settings.database_uri is None:
        return None
    check_database_setting(settings)
    from otel_monitoring.instrumentation.mongodb.own_client import database_at, needs_name_lookup

    uri = settings.database_uri.get_secret_value()
    make = partial(database_at, uri, timeout=settings.check_timeout)
    if needs_name_lookup(uri):
        return PendingDatabase(make, "its name is not resolved yet")
    try:
        return make()
    except ConnectionError as error:
        logger.warning("OTEL_MONITORING_DATABASE_URI: %s; it is tried again with every check", str(error))
        return PendingDatabase(make, str(error))
