"""What measures MongoDB: commands, connection pools, heartbeats and spans."""
