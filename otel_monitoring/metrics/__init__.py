"""What was measured: the reader, snapshots, histogram arithmetic, and windows over time."""
