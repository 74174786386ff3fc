"""What measures the system: CPU, memory, garbage collection and the event loop."""
