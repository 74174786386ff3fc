"""The exit codes of the commands; scripts depend on them."""

from typing import Final

OK: Final = 0
"""Healthy, or degraded unless `--strict`; everything in order."""
FAILED: Final = 1
"""Unhealthy; something is out of order."""
UNREACHABLE: Final = 2
"""No answer, or none from the monitoring endpoints."""
DENIED: Final = 3
"""The admin token is missing or wrong."""
USAGE: Final = 64
"""The command was called wrongly, or its extra is not installed (`EX_USAGE` of sysexits.h)."""
NOT_EXECUTABLE: Final = 126
"""`run`: the command cannot be executed. Shells use the same code."""
NOT_FOUND: Final = 127
"""`run`: there is no such command. Shells use the same code."""
INTERRUPTED: Final = 130
"""Ended by Ctrl-C."""
