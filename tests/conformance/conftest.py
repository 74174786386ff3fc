"""The application under test, in every engine this environment has."""

import gc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from tests.conformance.application import Gates, make_app
from tests.conformance.observed import ENGINES, Observed

Make = Callable[..., Observed]


@pytest.fixture
def collected() -> Iterator[None]:
    """Starlette 0.38 leaves its middleware's streams unclosed where a handler raises: hear of it here, not anywhere."""
    yield
    gc.collect()


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(engine: str, tmp_path: Path) -> Iterator[Make]:
    """Make an instrumented application: `make(serve=True, app_options={}, prepare=callable, **request_options)`."""
    made: list[Observed] = []

    def build(
        *,
        serve: bool = True,
        app_options: Mapping[str, Any] | None = None,
        prepare: Callable[[FastAPI], None] = lambda app: None,
        server: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Observed:
        (tmp_path / "file.txt").write_text("static")
        gates = Gates()
        app = make_app(gates, tmp_path, **(app_options or {}))
        observed = Observed(engine, app, gates, **options)
        made.append(observed)
        prepare(app)
        if serve:
            observed.serve(**(server or {}))
        return observed

    yield build
    for observed in made:
        observed.stop()


@pytest.fixture
def observed(make: Make) -> Observed:
    return make()
