"""What measures: HTTP servers and clients, MongoDB, and the system (CPU, memory, garbage collection, event loop)."""
