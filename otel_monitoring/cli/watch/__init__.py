"""`otel-monitoring watch`: a live view of one service. `poll` asks, `screen` draws, `live` handles keys."""
