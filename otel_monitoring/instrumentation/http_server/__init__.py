"""What measures requests: FastAPI's own telemetry, or contrib's instrumentation repaired."""
