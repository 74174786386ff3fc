"""A store that uses another one, and memory while that one fails."""

from otel_monitoring.alerts.store.fallback.store import RETRY_SECONDS, FallbackStore

__all__ = ["RETRY_SECONDS", "FallbackStore"]
