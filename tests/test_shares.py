from pathlib import Path

import pytest

from tests.shares import dealt, made_once


def test_each_worker_begins_with_its_share_of_the_long_tests(request: pytest.FixtureRequest) -> None:
    items, workers = request.session.items, 4
    order = dealt(items, workers)
    assert sorted(map(id, order)) == sorted(map(id, items))
    long = [item.get_closest_marker("long") is not None for item in order]
    files = {item.path for item in items if item.get_closest_marker("long")}
    if len(files) >= workers and len(items) >= workers * sum(long):
        starts = [sum((len(items) + place) // workers for place in range(worker)) for worker in range(workers)]
        assert all(long[start] for start in starts)


def test_what_is_made_once_is_made_again_where_that_failed(tmp_path_factory: pytest.TempPathFactory) -> None:
    attempts = []

    def make(folder: Path) -> None:
        attempts.append(folder)
        (folder / "begun").touch(exist_ok=False)
        if len(attempts) == 1:
            raise OSError("no space")
        (folder / "whole").touch()

    name = "made once"
    with pytest.raises(OSError, match="no space"):
        made_once(tmp_path_factory, name, make)
    made = {made_once(tmp_path_factory, name, make) for _ in range(3)}
    assert made == {attempts[1]}
    assert len(attempts) == 2
    assert sorted(path.name for path in attempts[1].iterdir()) == ["begun", "whole"]
