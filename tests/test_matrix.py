"""The versions that `make matrix` tries are those that are supported, and the documented table is the one it prints."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests import matrix
from tests.matrix import PYTHONS, RELEASES, ROOT, Row, interpreters, rows, table


def pinned(package: str, file: str) -> str:
    """The version of the newest Python."""
    found = re.findall(rf"^{package}==([^;\s]+)", (ROOT / file).read_text(), re.MULTILINE)
    return str(found[0])


def test_the_documentation_quotes_the_table() -> None:
    """Once it is there: it goes below the mark."""
    quoted = (ROOT / "docs" / "compatibility.md").read_text().partition("<!-- matrix -->")[2]
    assert "| tried | releases |" not in quoted or table(rows(True)) in quoted


def test_releases_go_from_the_oldest_supported_to_the_pinned() -> None:
    for file, pair in (("tests/constraints-oldest.txt", RELEASES[0]), ("constraints.txt", RELEASES[-1])):
        assert pair == (pinned("fastapi", file), pinned("pymongo", file))
    assert len(RELEASES) >= 12
    for releases in zip(*RELEASES, strict=True):
        numbers = [tuple(map(int, release.split("."))) for release in releases]
        assert numbers == sorted(set(numbers))


def test_pythons_are_those_the_package_says_it_is_for() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    assert tuple(re.findall(r"Programming Language :: Python :: (3\.\d+)", project)) == PYTHONS
    assert f'requires-python = ">={PYTHONS[0]}"' in project


@pytest.mark.slow
def test_every_python_is_found_on_the_path_and_in_pyenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = ".".join(map(str, sys.version_info[:2]))
    for name in ("path/python3", f"pyenv/versions/{here}.0/bin/python"):
        for missing in ("PATH", "PYENV_ROOT"):
            monkeypatch.setenv(missing, str(tmp_path / "nowhere"))
        link = tmp_path / name
        link.parent.mkdir(parents=True)
        link.symlink_to(sys.executable)
        monkeypatch.setenv("PATH" if name.startswith("path") else "PYENV_ROOT", str(tmp_path / name.split("/")[0]))
        assert interpreters() == {here: link}
    (tmp_path / "path" / "python3.99").write_text("no program")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert set(interpreters()) == {here}


def test_what_fails_or_is_not_found_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.nice", lambda _: 0)
    monkeypatch.setattr(matrix, "interpreters", lambda: {"3.10": Path("/a"), "3.9": Path("/b"), "3.99": Path("/c")})
    monkeypatch.setattr(matrix, "_try_python", lambda version, _: version != "3.99")
    assert matrix.main(["3.9", "3.10", "3.11", "3.99"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "| Python | 3.10, 3.11 not found, 3.99 **fails** |"
    assert matrix.main(["3.10", "3.11"]) == 0


def test_an_environment_is_made_once_for_what_it_holds(tmp_path: Path) -> None:
    made: list[str] = []

    def install() -> bool:
        (tmp_path / "one").mkdir()
        made.append("one")
        return len(made) != 2

    assert matrix._ready(tmp_path / "one", "a", install)
    assert matrix._ready(tmp_path / "one", "a", install)
    assert not matrix._ready(tmp_path / "one", "b", install), "what cannot be installed is not there"
    assert matrix._ready(tmp_path / "one", "b", install)
    assert len(made) == 3
    assert table([replace(Row("x", "x", "X", None), passed=False)]).endswith("| X | x **fails** |")
