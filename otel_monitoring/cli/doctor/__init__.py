"""`otel-monitoring doctor`: examines a deployment and says what to do. Each check is a module; `command` runs them."""
