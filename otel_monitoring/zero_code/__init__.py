"""Start without code: the entry points of `opentelemetry-instrument`, and what finds the application's clients."""
