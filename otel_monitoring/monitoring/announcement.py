"""The line a service logs once it has started: what is monitored, who may read it, where alerts and telemetry go."""

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
    """The line, without secrets.

    Args:
        settings: The service's settings.
        service: The service's name.
        kept: Endpoints that the application keeps for itself, such as `GET /api/health`.
        guarded: Whether the application's own dependency guards the private endpoints.
        database: Name and state of the database. None: no database.
        channels: Names of the channels that alerts go to.
        store: Where alerts are kept.
        exports: Where telemetry goes, in words.
    """
    health = f"{settings.prefix}/health"
    whose = "the application's own" if f"GET {health}" in kept else "public"
    return (
        f"{service} is monitored: {health} is {whose}, {_readers(settings, guarded)}; "
        f"{f'database {database}' if database else 'no database'}; "
        f"alerts go to {', '.join(channels) or 'nobody'} and are kept {place_of(store)}; {exports}"
    )


def _readers(settings: Settings, guarded: bool) -> str:
    """Who may read the private endpoints."""
    details = f"details and {settings.prefix}/alerts"
    if guarded:
        return f"{details} are for whom the application's dependency lets in"
    if settings.access == "open":
        return f"{details} are open to everybody"
    if settings.admin_token is not None:
        return f"{details} need the admin token"
    return f"{details} are closed until OTEL_MONITORING_ADMIN_TOKEN is set"
