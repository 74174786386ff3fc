"""What was measured: samples and histogram arithmetic, windows over time, and the reader that fetches them."""
