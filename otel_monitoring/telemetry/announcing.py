"""What a service says about its export when it starts."""

from collections.abc import Collection

from otel_monitoring.config.otlp import SIGNALS, OtlpSettings, Signal
from otel_monitoring.telemetry.export_state import without_credentials


def announcement(settings: OtlpSettings, joined: Collection[Signal]) -> str:
    """One line: which signals go where, without credentials.

    Args:
        settings: Where they go.
        joined: Signals whose provider is the application's own: how these leave is not known here.
    """
    if settings.sdk_disabled:
        return "OTEL_SDK_DISABLED is set: nothing is measured or exported"
    ways: dict[str, list[str]] = {}
    for signal in SIGNALS:
        endpoint = settings.endpoint(signal)
        if signal in joined:
            ways.setdefault("the application's own provider", []).append(signal)
        elif endpoint is not None:
            shown = without_credentials(endpoint).removesuffix(f"/v1/{signal}")
            ways.setdefault(f"{shown} ({settings.protocol(signal)})", []).append(signal)
    if not ways:
        return "no OTLP endpoint: nothing is exported"
    return "exporting " + "; ".join(f"{', '.join(signals)} to {way}" for way, signals in ways.items())
