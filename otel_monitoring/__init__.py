"""OpenTelemetry traces, metrics, health endpoints and alerts for FastAPI + MongoDB services, in one call."""
