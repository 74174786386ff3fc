"""`python -m otel_monitoring.cli`."""

from otel_monitoring.cli import main

main()
