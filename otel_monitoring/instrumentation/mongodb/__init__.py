"""What measures MongoDB: commands, pools, heartbeats, spans."""
