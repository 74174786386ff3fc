"""`python -m examples.earlybird.run_with_parent MODULE:FUNCTION ARGS…`: run a command that ends when its parent does.

The parent holds the other end of the standard input and never writes, so end of file means that the parent has ended,
even if it was killed.
"""

import importlib
import os
import signal
import sys
import threading
import time

GRACE_SECONDS = 10.0


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, name="leash", daemon=True).start()
    sys.argv = sys.argv[1:]
    module, _, function = sys.argv[0].partition(":")
    sys.exit(getattr(importlib.import_module(module), function)())
