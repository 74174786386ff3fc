"""What several integration tests need."""

from collections.abc import Iterator

import pytest

from tests.integration.receivers import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    """An event loop in a thread, for receivers that serve while a test waits."""
    loop = Loop()
    yield loop
    loop.close()
