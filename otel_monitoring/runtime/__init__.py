"""The background thread, the start and stop of a worker, lines at the start, and work in threads and on loops."""
