"""Is the service well: checks, database, request statistics, and the rules for the status."""
