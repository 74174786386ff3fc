"""What a service says once it has started: what is on, for whom, and where it goes."""

from collections.abc import Collection, Iterable

from otel_monitoring.alerts.store import Store, place_of
from otel_monitoring.config.settings import Settings


def announcement(
    settings: Settings,
    *,
    service: str,
    kept: Collection[str],
    guarded: bool,
    database: str | None,
    channels: Iterable[str],
    store: Store,
    exports: str,
) -> str:
    """One line, without secrets.

    Args:
        settings: The service's.
        service: Its name.
        kept: The endpoints that stay the application's, as `GET /api/health`.
        guarded: Whether a dependency of the application's own guards the private endpoints.
        database: Name and state of the database; None: there is none.
        channels: Where alerts go.
        store: Where they are kept.
        exports: Where telemetry goes.
    """
    health = f"{settings.prefix}/health"
    whose = "the application's own" if f"GET {health}" in kept else "public"
    return (
        f"{service} is monitored: {health} is {whose}, {_readers(settings, guarded)}; "
        f"{f'database {database}' if database else 'no database'}; "
        f"alerts go to {', '.join(channels) or 'nobody'} and are kept {place_of(store)}; {exports}"
    )


def _readers(settings: Settings, guarded: bool) -> str:
    details = f"details and {settings.prefix}/alerts"
    if guarded:
        return f"{details} are for whom the application's dependency lets in"
    if settings.access == "open":
        return f"{details} are open to everybody"
    if settings.admin_token is not None:
        return f"{details} need the admin token"
    return f"{details} are closed until OTEL_MONITORING_ADMIN_TOKEN is set"
