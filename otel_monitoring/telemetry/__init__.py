"""OTLP: what leaves the process, how, and what became of it."""
