"""The HTTP routes and their JSON."""
