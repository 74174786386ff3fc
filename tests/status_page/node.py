"""What the tests of the page need of npm."""

from pathlib import Path

from tests.conftest import unavailable
from tests.integration.builds import NODE, BuildError


def node_modules() -> Path:
    """The folder with the packages; the test is skipped where they cannot be had."""
    try:
        return NODE.install()
    except BuildError as error:
        unavailable(str(error))
