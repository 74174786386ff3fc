"""A store that uses another one, and memory while that one fails."""

from otel_monitoring.alerts.store.fallback.store import BUSY_RETRY_SECONDS, RETRY_SECONDS, FallbackStore

__all__ = ["BUSY_RETRY_SECONDS", "RETRY_SECONDS", "FallbackStore"]
