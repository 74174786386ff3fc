"""What is called when a module is imported."""

import importlib
import importlib.util
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from otel_monitoring.runtime.imported import when_imported

NAME = "awaited_by_someone"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / f"{NAME}.py"
    sys.modules.pop(NAME, None)


def test_it_is_called_once_at_the_end_of_the_import(source: Path) -> None:
    source.write_text("done = True")
    seen: list[bool] = []
    for _ in range(2):
        when_imported(NAME, lambda module: seen.append(module.done))
    assert importlib.util.find_spec(NAME) is not None  # as who only looks whether it is there
    assert seen == []
    module = importlib.import_module(NAME)
    assert seen == [True, True]
    assert importlib.reload(module) is module
    assert seen == [True, True]


def test_a_module_that_is_there_already() -> None:
    seen: list[ModuleType] = []
    when_imported("sys", seen.append)
    assert seen == [sys]


def test_a_module_that_another_thread_is_importing(source: Path) -> None:
    source.write_text("import threading\nthreading.current_thread().stop_here()\ndone = True\n")
    begun, go_on = threading.Event(), threading.Event()

    class Importer(threading.Thread):
        def run(self) -> None:
            importlib.import_module(NAME)

        def stop_here(self) -> None:
            begun.set()
            assert go_on.wait(30)

    importer = Importer()
    importer.start()
    assert begun.wait(30)
    seen: list[bool] = []
    waiting = threading.Thread(target=when_imported, args=(NAME, lambda module: seen.append(hasattr(module, "done"))))
    waiting.start()
    waiting.join(0.05)
    go_on.set()
    waiting.join(30)
    importer.join(30)
    assert seen == [True]


def test_a_finder_that_is_none_of_today(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source.write_text("done = True")
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path[:-1], object(), sys.meta_path[-1]])
    seen: list[bool] = []
    when_imported(NAME, lambda module: seen.append(module.done))
    assert importlib.util.find_spec(NAME) is not None
    importlib.import_module(NAME)
    assert seen == [True]


def test_the_module_has_the_loader_that_it_would_have(source: Path) -> None:
    source.write_text("loader = __loader__, __spec__.loader")
    plain = importlib.util.find_spec(NAME)
    assert plain is not None
    when_imported(NAME, lambda _module: None)
    module = importlib.import_module(NAME)
    assert {type(loader) for loader in module.loader} == {type(plain.loader)}
    assert module.__spec__ is not None
    assert module.__spec__.origin == plain.origin


def test_a_found_spec_answers_for_the_loader(source: Path) -> None:
    source.write_text("x = 1")
    when_imported(NAME, lambda _module: None)
    spec = importlib.util.find_spec(NAME)
    assert spec is not None
    assert spec.loader.get_source(NAME) == "x = 1"  # type: ignore[union-attr]
    importlib.import_module(NAME)


def test_an_import_that_fails_is_waited_for_again(source: Path) -> None:
    seen: list[str] = []
    when_imported(NAME, lambda module: seen.append(module.__name__))
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(NAME)
    source.write_text("raise ValueError")
    importlib.invalidate_caches()
    with pytest.raises(ValueError, match=r"^$"):
        importlib.import_module(NAME)
    assert seen == []
    source.write_text("x = 1  # of another size, so that no bytecode is taken for its")
    importlib.invalidate_caches()
    importlib.import_module(NAME)
    assert seen == [NAME]
