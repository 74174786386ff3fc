"""The seams of instrumentation: requests, database commands, the process."""
