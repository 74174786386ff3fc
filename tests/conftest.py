"""Fixtures every test may use."""

import os
from typing import NoReturn

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


def unavailable(reason: str) -> NoReturn:
    """Skip because a real part is missing on this machine; where CI runs, that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have it: {reason}")
    pytest.skip(reason)
