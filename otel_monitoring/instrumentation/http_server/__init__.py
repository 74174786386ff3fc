"""What measures requests: FastAPI's own telemetry, or opentelemetry-instrumentation-fastapi with our metrics."""
