"""Instrumentation without code: the entry points of `opentelemetry-instrument`, and the search for MongoDB clients."""
