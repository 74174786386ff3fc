"""`user_state_directory`: where programs of this user keep their state."""

import os
import sys
from pathlib import Path


def user_state_directory() -> Path:
    """`XDG_STATE_HOME`, or what the platform has; the XDG specification says to ignore relative paths.

    Raises:
        RuntimeError: The user has no home.
    """
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return Path(local) if local else Path.home() / "AppData" / "Local"
    chosen = Path(os.environ.get("XDG_STATE_HOME", ""))
    if chosen.is_absolute():
        return chosen
    return Path.home() / ("Library/Application Support" if sys.platform == "darwin" else ".local/state")
