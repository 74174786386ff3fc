"""The background thread, the start and stop of a worker, and work in threads and on loops."""
