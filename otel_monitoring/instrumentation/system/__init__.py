"""What measures the process and its host: CPU, memory, garbage collection, event loop."""
