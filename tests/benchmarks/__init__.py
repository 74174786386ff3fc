"""What the package costs, beside its peers: `python -m tests.benchmarks --help`."""
