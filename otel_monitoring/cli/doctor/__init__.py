"""`otel-monitoring doctor`: walks the deployment checklist and says what to do; each check is a module of its own."""
