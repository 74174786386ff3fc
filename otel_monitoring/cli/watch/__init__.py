"""`otel-monitoring watch`: a live view of one service."""
